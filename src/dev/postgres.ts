import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Cluster, claimClusterHome, type EmbeddedPostgresOptions, openCluster } from './postgres-cluster.ts';
import { plainEnvironment } from './processes.ts';

export interface EmbeddedPostgres {
  /** Superuser URL of the database `postgres`, with the password. */
  url: string;
  urlFor(database: string): string;
  port: number;
  pid: number;
  /** The directory of the data. It differs from the requested one if the server's user cannot enter that one. */
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
 * Starts a PostgreSQL that listens on 127.0.0.1 only and runs until `stop`. It also ends when this process ends, even
 * by SIGKILL. Ctrl-C does not reach it: the caller decides when it ends.
 *
 * Rejects if the port or the data directory is in use, or the data has another major version. If the server does not
 * start, the message ends with its log.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const home = await claimClusterHome(options.dataDirectory);
  try {
    const cluster = await openCluster(home, options);
    return serve(cluster, await launchOnPort(cluster, options), options.persistent);
  } catch (error) {
    await home.close({ remove: !options.persistent });
    throw error;
  }
}

type Server = Awaited<ReturnType<typeof launch>>;

/** Launches the server. Tries another port if another process takes the free port first. */
async function launchOnPort(cluster: Cluster, options: EmbeddedPostgresOptions): Promise<Server> {
  const wantedPort = options.port ?? 0;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await launch(cluster, await claimPort(wantedPort), options);
    } catch (error) {
      const portWasTaken = error instanceof Error && error.message.includes('could not bind');
      if (!portWasTaken || wantedPort !== 0 || attempt === portAttempts) throw error;
    }
  }
}

async function launch(cluster: Cluster, port: number, options: EmbeddedPostgresOptions) {
  const settings: Record<string, string> = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    ...options.settings,
    port: String(port),
  };
  const parameters = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const child = spawn(cluster.binaries.postgres, ['-D', cluster.directory, ...parameters], {
    ...detached(cluster),
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const lastLines: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => {
    if (lastLines.push(line) > 20) lastLines.shift();
  });
  const ended = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => resolve());
  });
  // Without a pid, `ended` rejects with the reason, which the loop below reads.
  ended.catch(() => undefined);
  const { pid = 0 } = child;
  const deadline = performance.now() + startTimeoutMs;
  while (!(await isReady(cluster, pid))) {
    if (performance.now() > deadline) {
      child.kill('SIGKILL');
      throw new Error(`PostgreSQL was not ready within ${startTimeoutMs / 1000} s`);
    }
    const hasEnded = await Promise.race([ended.then(() => true), sleep(25, false)]);
    if (hasEnded) throw new Error(`PostgreSQL did not start. The end of its log:\n${lastLines.join('\n')}`);
  }
  return { child, pid, port, ended };
}

/** Returns options for a session of its own, which Ctrl-C does not reach: LOOM must end before its database. */
function detached({ user }: Cluster) {
  return { ...user, cwd: '/', env: plainEnvironment, detached: true };
}

/** Returns whether the server, or a hot standby, accepts connections. Line 8 of `postmaster.pid` tells `pg_ctl` so. */
async function isReady({ directory }: Cluster, pid: number): Promise<boolean> {
  const lines = (await readFile(join(directory, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n');
  return Number(lines[0]) === pid && ['ready', 'standby'].includes(lines[7]?.trim() ?? '');
}

function serve(cluster: Cluster, { child, pid, port, ended }: Server, persistent: boolean): EmbeddedPostgres {
  const stopGuard = startGuard(cluster, pid, persistent);
  void ended.then(stopGuard);
  const stop = async (keepData: boolean): Promise<void> => {
    // `child.kill` does nothing after the server has ended, when its pid may belong to another process.
    child.kill('SIGINT');
    const timers = [
      setTimeout(() => child.kill('SIGQUIT'), fastShutdownMs),
      setTimeout(() => child.kill('SIGKILL'), fastShutdownMs + immediateShutdownMs),
    ];
    await ended;
    for (const timer of timers) clearTimeout(timer);
    await cluster.close({ remove: !keepData });
  };
  const urlFor = (database: string): string =>
    `postgresql://postgres:${encodeURIComponent(cluster.password)}@127.0.0.1:${port}/${encodeURIComponent(database)}`;
  let stopped: Promise<void> | undefined;
  return {
    url: urlFor('postgres'),
    urlFor,
    port,
    pid,
    dataDirectory: cluster.baseDirectory,
    ended,
    stop: ({ keepData = persistent } = {}) => {
      stopped ??= stop(keepData);
      return stopped;
    },
  };
}

/**
 * Stops the server when this process ends. Standard input is a pipe that then closes, even after SIGKILL. The script
 * continues the server, which a test may have frozen, stops it, and removes data that is not persistent. A line on
 * standard input ends the script, for a server that has ended.
 */
const guardScript = `
if read -r _; then exit; fi
kill -CONT "$1"; kill -INT "$1"
tries=0
while kill -0 "$1" && [ $tries -lt 150 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -QUIT "$1"
if [ -n "$2" ]; then sleep 0.2; rm -rf "$2"; fi
`;

/** Starts the guard and returns a function that ends it. */
function startGuard(cluster: Cluster, serverPid: number, persistent: boolean): () => void {
  const parameters = ['-c', guardScript, 'guard', String(serverPid), persistent ? '' : cluster.baseDirectory];
  const guard = spawn('/bin/sh', parameters, { ...detached(cluster), stdio: ['pipe', 'ignore', 'ignore'] });
  guard.on('error', () => undefined);
  guard.stdin.on('error', () => undefined);
  return () => guard.stdin.end('ended\n');
}

/** Returns a port that is free now: the wanted one, or any for 0. */
async function claimPort(wantedPort: number): Promise<number> {
  const probe = createServer().listen(wantedPort, '127.0.0.1');
  await once(probe, 'listening').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EADDRINUSE') throw error;
    throw new Error(`Port ${wantedPort} is in use. Choose another, or 0 for any.`);
  });
  const address = probe.address();
  await once(probe.close(), 'close');
  return typeof address === 'object' && address !== null ? address.port : wantedPort;
}
