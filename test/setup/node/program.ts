import { type ChildProcess, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { inject } from 'vitest';
import { plainEnvironment } from '../../../src/dev/processes.ts';

type Environment = Record<string, string>;

export interface Program {
  /** Where it listens. */
  url: string;
  pid: number;
  /** All that it has written to both of its outputs. */
  output(): string;
  /** Whether the process is still there. */
  running(): boolean;
  /** SIGTERM, without waiting for the end. */
  terminate(): void;
  /** SIGTERM, unless it has ended; answers the exit code. May be called twice. */
  stop(): Promise<number>;
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>;
}

/**
 * The real program in a process of its own, as an operator starts it, on a free port unless `LOOM_PORT` says otherwise. Its
 * environment is `env` and nothing of ours, and no `.env` lies in its directory. Resolves when it listens; rejects with
 * its output when it ends before. `entry` is its `main.js`, for who is not in a run of the tests.
 */
export async function startProgram({
  env,
  command = 'serve',
  entry = inject('programEntry'),
}: {
  env: Environment;
  command?: string;
  entry?: string;
}): Promise<Program> {
  const { child, output, ended } = launch(entry, [command], { LOOM_PORT: '0', ...env });
  const url = await Promise.race([listening(child, output), ended.then(() => undefined)]);
  if (url === undefined) throw new Error(`The program ended before it listened: ${output()}`);
  return {
    url,
    pid: child.pid ?? 0,
    output,
    running: () => child.exitCode === null && child.signalCode === null,
    terminate: () => void child.kill('SIGTERM'),
    stop: async () => {
      if (child.exitCode === null) child.kill('SIGTERM');
      return await ended;
    },
    kill: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/** Runs the real program to its end: for commands that end by themselves, and for those that cannot start. */
export async function runProgramToEnd(args: string[], env: Environment): Promise<{ code: number; output: string }> {
  const { output, ended } = launch(inject('programEntry'), args, env);
  return { code: await ended, output: output() };
}

/** One command line, as an operator types it. */
export async function runCommandLine(
  line: string,
  { directory, env }: { directory: string; env: Environment },
): Promise<{ code: number; stdout: string; stderr: string }> {
  // `node` is to be the one that runs the tests.
  const path = `${dirname(process.execPath)}:${plainEnvironment.PATH}`;
  const child = spawn('bash', ['--norc', '-c', line], {
    cwd: directory,
    env: { ...plainEnvironment, PATH: path, ...env },
    // Not a pipe: Node's are sockets, and a bash that reads from a socket takes itself for a remote shell's.
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [stdout, stderr] = [collect(child.stdout), collect(child.stderr)];
  return { code: await endOf(child), stdout: stdout(), stderr: stderr() };
}

/** Asks until `isDone` says so; throws the last thing seen when it never does. */
export async function waitUntil<T>(look: () => Promise<T>, isDone: (seen: T) => boolean, maxMs = 60_000): Promise<T> {
  const deadline = Date.now() + maxMs;
  for (;;) {
    const seen = await look();
    if (isDone(seen)) return seen;
    if (Date.now() > deadline) throw new Error(`Waited in vain; seen last: ${JSON.stringify(seen)}`);
    await sleep(50);
  }
}

export async function waitUntilReady(url: string): Promise<void> {
  await waitUntil(
    () => fetch(`${url}/ready`).then((answer) => answer.status),
    (status) => status === 200,
  );
}

/** The port, or a free one when somebody has taken it. */
export function portOrAnother(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', () => (port === 0 ? reject(new Error('no port is free')) : resolve(portOrAnother(0))));
    server.listen(port, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(address === null || typeof address === 'string' ? port : address.port));
    });
  });
}

function launch(entry: string, args: string[], env: Environment) {
  const child = spawn(process.execPath, [entry, ...args], {
    cwd: tmpdir(),
    env: { ...plainEnvironment, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  // When the tests are broken off, nothing of theirs stays behind.
  const kill = (): void => void child.kill('SIGKILL');
  process.once('exit', kill);
  const [stdout, stderr] = [collect(child.stdout), collect(child.stderr)];
  const ended = endOf(child).finally(() => process.off('exit', kill));
  return { child, output: () => stdout() + stderr(), ended };
}

function collect(stream: NodeJS.ReadableStream): () => string {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => void chunks.push(chunk));
  return () => Buffer.concat(chunks).toString('utf8');
}

/** The exit code; -1 when a signal has ended it. */
function endOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code ?? -1));
  });
}

/** The log line that says where the node listens, which `info` shows. */
function listening(child: ChildProcess, output: () => string): Promise<string> {
  return new Promise((resolve) => {
    const look = (): void => {
      const url = /"url":"([^"]+)"[^\n]*"msg":"listening"\}\n/.exec(output())?.[1];
      if (url === undefined) return;
      child.stdout?.off('data', look);
      resolve(url);
    };
    child.stdout?.on('data', look);
  });
}
