import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { findServerUser, plainEnvironment } from '../../../src/dev/processes.ts';
import { readDeployFile, replaceEach } from '../deploy/files.ts';
import { POOLED_CONNECTIONS } from '../roles/pooled.ts';

export interface Pooler {
  /** URL of the database through the pooler. */
  url: string;
  /** Returns the connections of clients, and the busy connections to the server. */
  pool(): Promise<{ clients: number; busy: number }>;
  /** Lets the pooler keep its clients waiting, until `resume`. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Sends SIGKILL. */
  kill(): Promise<void>;
  /** Starts it on the same port after `kill`. Resolves when it accepts connections. */
  startAgain(): Promise<void>;
  stop(): Promise<void>;
}

const program = ['/usr/sbin/pgbouncer', '/usr/bin/pgbouncer', '/opt/homebrew/bin/pgbouncer'].find(existsSync);

/** Whether PgBouncer is installed on this machine. */
export const hasPooler = program !== undefined;

/** Starts a PgBouncer with the file of `docs/deploy`, but with this many connections to the server. */
export async function startPooler(databaseUrl: string, poolSize: number): Promise<Pooler> {
  const { hostname, port, pathname, username, password } = new URL(databaseUrl);
  const database = pathname.slice(1);
  const login = `user=${decodeURIComponent(username)} password=${decodeURIComponent(password)}`;
  const pooler = await launch(poolSize, {
    'loom = host=127.0.0.1 port=5432 dbname=loom': `${database} = host=${hostname} port=${port} dbname=${database} ${login}`,
    'auth_type = scram-sha-256': 'auth_type = any',
    'auth_file = /etc/pgbouncer/userlist.txt': 'admin_users = admin',
  });
  const url = (name: string, login: string): string => `postgres://${login}@127.0.0.1:${pooler.port}/${name}`;
  await untilItAnswers(url(database, 'loom'));
  return {
    url: url(database, 'loom'),
    pool: async () => {
      const rows = await ask(url('pgbouncer', 'admin'), 'show pools');
      const row = rows.find((one) => one.database === database);
      return { clients: Number(row?.cl_active), busy: Number(row?.sv_active) };
    },
    pause: () => ask(url('pgbouncer', 'admin'), `pause "${database}"`).then(() => undefined),
    resume: () => ask(url('pgbouncer', 'admin'), `resume "${database}"`).then(() => undefined),
    kill: pooler.kill,
    startAgain: async () => {
      pooler.start();
      await untilItAnswers(url('pgbouncer', 'admin'), 'show version');
    },
    stop: pooler.stop,
  };
}

/**
 * Starts a PgBouncer for all databases of a server, with this many connections for each database and role. It knows the
 * superuser of the URL, and asks the server for every other role. With SCRAM, it needs no password of a role.
 */
export async function startServerPooler(serverUrl: string): Promise<Pick<Process, 'port' | 'stop'>> {
  const { hostname, port, pathname, username, password } = new URL(serverUrl);
  const superuser = decodeURIComponent(username);
  const replaced = {
    'loom = host=127.0.0.1 port=5432 dbname=loom': `* = host=${hostname} port=${port} auth_user=${superuser}`,
  };
  const pooler = await launch(POOLED_CONNECTIONS, replaced, `"${superuser}" "${decodeURIComponent(password)}"\n`);
  await untilItAnswers(`postgres://${username}:${password}@127.0.0.1:${pooler.port}${pathname}`);
  return pooler;
}

/** A PgBouncer of this process. */
interface Process {
  port: number;
  kill(): Promise<void>;
  /** Starts it again on the same port. */
  start(): void;
  stop(): Promise<void>;
}

async function launch(poolSize: number, replaced: Record<string, string>, logins?: string): Promise<Process> {
  if (program === undefined) throw new Error('PgBouncer is not installed');
  const directory = await mkdtemp(join(tmpdir(), 'loom-test-pooler-'));
  const port = await freePort();
  const loginFile = join(directory, 'userlist.txt');
  const configuration = replaceEach(readDeployFile('pgbouncer.ini'), {
    ...(logins === undefined ? {} : { '/etc/pgbouncer/userlist.txt': loginFile }),
    ...replaced,
    'listen_port = 6432': `listen_port = ${port}`,
    'default_pool_size = 20': `default_pool_size = ${poolSize}`,
    'max_client_conn = 100': 'max_client_conn = 500',
  });
  const file = join(directory, 'pgbouncer.ini');
  await Promise.all([writeFile(file, configuration), writeFile(loginFile, logins ?? '')]);
  // PgBouncer refuses to run as root. The directory is unknown to others, and its password is that of a test.
  await Promise.all([chmod(directory, 0o755), chmod(file, 0o644), chmod(loginFile, 0o644)]);
  const user = await findServerUser();
  const run = (): ChildProcess => spawn(program, [file], { ...user, cwd: '/', env: plainEnvironment, stdio: 'ignore' });
  let child = run();
  const signal = (): void => void child.kill('SIGKILL');
  process.once('exit', signal);
  const kill = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'close');
    signal();
    await ended;
  };
  return {
    port,
    kill,
    start: () => {
      child = run();
    },
    stop: async () => {
      process.off('exit', signal);
      await kill();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' ? (address?.port ?? 0) : 0;
}

async function untilItAnswers(url: string, statement = 'select 1'): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await ask(url, statement);
      return;
    } catch (error) {
      if (attempt === 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

async function ask(url: string, statement: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query(statement)).rows as Record<string, unknown>[];
  } finally {
    await client.end();
  }
}
