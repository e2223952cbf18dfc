import { spawn } from 'node:child_process';
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
    stop: pooler.stop,
  };
}

/**
 * Starts a PgBouncer for all databases of a server, with this many connections for each database and role. It knows the
 * superuser of the URL, and asks the server for every other role. With SCRAM, it needs no password of a role.
 */
export async function startServerPooler(serverUrl: string): Promise<{ port: number; stop(): Promise<void> }> {
  const { hostname, port, pathname, username, password } = new URL(serverUrl);
  const superuser = decodeURIComponent(username);
  const replaced = {
    'loom = host=127.0.0.1 port=5432 dbname=loom': `* = host=${hostname} port=${port} auth_user=${superuser}`,
  };
  const pooler = await launch(POOLED_CONNECTIONS, replaced, `"${superuser}" "${decodeURIComponent(password)}"\n`);
  await untilItAnswers(`postgres://${username}:${password}@127.0.0.1:${pooler.port}${pathname}`);
  return pooler;
}

async function launch(
  poolSize: number,
  replaced: Record<string, string>,
  logins?: string,
): Promise<{ port: number; stop(): Promise<void> }> {
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
  const child = spawn(program, [file], { ...user, cwd: '/', env: plainEnvironment, stdio: 'ignore' });
  const kill = (): void => void child.kill('SIGKILL');
  process.once('exit', kill);
  return {
    port,
    stop: async () => {
      process.off('exit', kill);
      const ended = once(child, 'close');
      kill();
      await ended;
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

async function untilItAnswers(url: string): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await ask(url, 'select 1');
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
