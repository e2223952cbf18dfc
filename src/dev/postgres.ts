import { type ChildProcess, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Cluster, type ClusterOptions, openCluster } from './postgres-cluster.ts';
import { plainEnvironment, sendSignal } from './processes.ts';

export interface EmbeddedPostgresOptions extends ClusterOptions {
  /** Undefined or 0 takes a free port. A port in use is an error. */
  port?: number;
  /** Texts by file name, written into PGDATA before each start: certificates, keys, `pg_hba.conf`. */
  files?: Record<string, string>;
  /** Receives each log line of the server. A line may show statements and data, never a password. */
  onLog?: (line: string) => void;
}

export interface EmbeddedPostgres {
  /** Superuser URL of the database `postgres`, with the password. */
  url: string;
  urlFor(database: string): string;
  port: number;
  pid: number;
  /** The directory of the data. It differs from the requested one if the server's user cannot enter that. */
  dataDirectory: string;
  /** Resolves when the server has ended, for any reason. */
  ended: Promise<void>;
  /** Ends all sessions and the server (fast shutdown). A second call waits for the first. */
  stop(options?: { keepData?: boolean }): Promise<void>;
}

const startTimeoutMs = 120_000;
const fastShutdownMs = 15_000;
const immediateShutdownMs = 10_000;
const portAttempts = 5;

/**
 * Starts a PostgreSQL that listens on 127.0.0.1 only, and serves until `stop`. It also ends when this process ends, even by
 * SIGKILL. Ctrl-C does not reach it: the caller decides when it ends.
 *
 * Rejects with a message for a developer: port in use, data directory in use by another process, data of another major
 * version, a server that does not start (with the last lines of its log).
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const cluster = await openCluster(options);
  try {
    for (const [name, text] of Object.entries(options.files ?? {})) await cluster.writeFile(name, text);
    const { child, port } = await launchOnPort(cluster, options);
    return serve(cluster, child, port, options);
  } catch (error) {
    await cluster.close({ remove: !options.persistent });
    throw error;
  }
}

interface Launched {
  child: ChildProcess & { pid: number };
  port: number;
}

/** Launches the server. Another process may take a free port before the server does: then it tries the next port. */
async function launchOnPort(cluster: Cluster, options: EmbeddedPostgresOptions): Promise<Launched> {
  const wantedPort = options.port ?? 0;
  for (let attempt = 1; ; attempt += 1) {
    const port = await claimPort(wantedPort);
    try {
      return { child: await launch(cluster, port, options), port };
    } catch (error) {
      const portWasTaken = error instanceof Error && error.message.includes('could not bind');
      if (!portWasTaken || wantedPort !== 0 || attempt === portAttempts) throw error;
    }
  }
}

async function launch(cluster: Cluster, port: number, options: EmbeddedPostgresOptions): Promise<Launched['child']> {
  const settings: Record<string, string> = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    ...options.settings,
    port: String(port),
  };
  const parameters = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  // Its own session: a terminal sends Ctrl-C to the foreground group, and LOOM must end before its database.
  const child = spawn(cluster.binaries.postgres, ['-D', cluster.directory, ...parameters], {
    ...cluster.user,
    cwd: '/',
    env: plainEnvironment,
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const lastLines: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => {
    if (lastLines.push(line) > 20) lastLines.shift();
    options.onLog?.(line);
  });
  const failure = new Promise<never>((_resolve, reject) => {
    child.once('error', reject);
    child.once('close', () =>
      reject(new Error(`PostgreSQL did not start. The end of its log:\n${lastLines.join('\n')}`)),
    );
  });
  failure.catch(() => undefined);
  await Promise.race([failure, waitUntilReady(cluster.directory, child)]);
  if (!hasPid(child)) throw new Error('PostgreSQL did not start');
  return child;
}

/** Waits for the state `ready`, which the server writes into line 8 of `postmaster.pid` for `pg_ctl`. */
async function waitUntilReady(clusterDirectory: string, child: ChildProcess): Promise<void> {
  const deadline = Date.now() + startTimeoutMs;
  while (child.exitCode === null && child.signalCode === null) {
    const lines = (await readFile(join(clusterDirectory, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n');
    if (Number(lines[0]) === child.pid && lines[7]?.trim() === 'ready') return;
    if (Date.now() > deadline) {
      child.kill('SIGKILL');
      throw new Error(`PostgreSQL was not ready within ${startTimeoutMs / 1000} s`);
    }
    await sleep(25);
  }
  // The other side of the race rejects with the reason, once it has read the whole log.
  await new Promise(() => undefined);
}

function serve(
  cluster: Cluster,
  child: Launched['child'],
  port: number,
  options: EmbeddedPostgresOptions,
): EmbeddedPostgres {
  const stopGuard = startGuard(cluster, child.pid, options.persistent);
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    if (child.exitCode !== null || child.signalCode !== null) resolve();
  });
  void ended.then(stopGuard);
  const stop = async (keepData: boolean): Promise<void> => {
    // Not by pid: `child.kill` does nothing after the end of the server, when another process may have its pid.
    child.kill('SIGINT');
    if (!(await endsWithin(ended, fastShutdownMs))) child.kill('SIGQUIT');
    if (!(await endsWithin(ended, immediateShutdownMs))) child.kill('SIGKILL');
    await ended;
    await cluster.close({ remove: !keepData });
  };
  const urlFor = (database: string): string =>
    `postgresql://postgres:${encodeURIComponent(cluster.password)}@127.0.0.1:${port}/${encodeURIComponent(database)}`;
  let stopped: Promise<void> | undefined;
  return {
    url: urlFor('postgres'),
    urlFor,
    port,
    pid: child.pid,
    dataDirectory: cluster.baseDirectory,
    ended,
    stop: ({ keepData = options.persistent } = {}) => {
      stopped ??= stop(keepData);
      return stopped;
    },
  };
}

/**
 * Guards the server from another process. Its standard input is a pipe that closes when this process ends, even by SIGKILL.
 * Then it continues the server, which a test may have frozen, stops it, and removes data that is not persistent.
 */
const guardScript = `
cat >/dev/null
kill -CONT "$1"; kill -INT "$1"
tries=0
while kill -0 "$1" && [ $tries -lt 150 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -QUIT "$1"
if [ -n "$2" ]; then sleep 0.2; rm -rf "$2"; fi
`;

function startGuard(cluster: Cluster, serverPid: number, persistent: boolean): () => void {
  const guard = spawn(
    '/bin/sh',
    ['-c', guardScript, 'guard', String(serverPid), persistent ? '' : cluster.baseDirectory],
    {
      ...cluster.user,
      cwd: '/',
      env: plainEnvironment,
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    },
  );
  guard.on('error', () => undefined);
  guard.stdin.on('error', () => undefined);
  const { pid } = guard;
  let ended = false;
  guard.once('exit', () => {
    ended = true;
  });
  return () => {
    if (pid !== undefined && !ended) sendSignal(-pid, 'SIGKILL');
  };
}

async function endsWithin(ended: Promise<void>, timeoutMs: number): Promise<boolean> {
  const timer = new AbortController();
  try {
    const timeout = sleep(timeoutMs, false, { signal: timer.signal }).catch(() => false);
    return await Promise.race([ended.then(() => true), timeout]);
  } finally {
    timer.abort();
  }
}

/** Returns a port that is free now: the wanted one, or any for 0. */
function claimPort(wantedPort: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'EADDRINUSE' ? new Error(`Port ${wantedPort} is in use. Choose another, or 0 for any.`) : error,
      ),
    );
    probe.listen(wantedPort, '127.0.0.1', () => {
      const address = probe.address();
      const port = address !== null && typeof address === 'object' ? address.port : wantedPort;
      probe.close(() => resolve(port));
    });
  });
}

function hasPid(child: ChildProcess): child is Launched['child'] {
  return child.pid !== undefined;
}
