import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { inject } from 'vitest';
import { plainEnvironment } from '../../../src/dev/processes.ts';
import { createAnswerRecord } from '../answers/records.ts';
import { isTestWorker } from '../depth.ts';
import { nodeUrl } from '../roles/node-url.ts';

type Environment = Record<string, string>;

export interface Program {
  url: string;
  pid: number;
  /** Returns everything written to standard output and standard error so far. */
  output(): string;
  /** Returns whether the process still exists. */
  running(): boolean;
  /** Sends SIGTERM and does not wait. */
  terminate(): void;
  /** Sends SIGTERM unless the process has ended, and returns the exit code. May be called twice. */
  stop(): Promise<number>;
  /** Sends SIGKILL and resolves when the process has ended. */
  kill(): Promise<void>;
}

/**
 * Starts the real program in its own process, as an operator does, on a free port unless `env` has `LOOM_PORT`. The
 * program gets `env` without any variable of the tests, and its directory has no `.env`. Resolves when the program
 * listens. Rejects with its output if it ends before that. `entry` is its `main.js`, for callers outside a test run.
 * With `logFile`, standard output goes to this new file, so that a benchmark need not read it.
 */
export async function startProgram({
  env,
  command = 'serve',
  entry = inject('programEntry'),
  logFile,
}: {
  env: Environment;
  command?: string;
  entry?: string;
  logFile?: string;
}): Promise<Program> {
  const { child, output, ended } = launch(entry, [command], { LOOM_PORT: '0', ...env }, logFile);
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

/** Runs the real program until it ends. */
export async function runProgramToEnd(args: string[], env: Environment): Promise<{ code: number; output: string }> {
  const { output, ended } = launch(inject('programEntry'), args, env);
  return { code: await ended, output: output() };
}

/** Runs a command line as an operator types it. */
export async function runCommandLine(
  line: string,
  { directory, env }: { directory: string; env: Environment },
): Promise<{ code: number; stdout: string; stderr: string }> {
  // The command `node` is the executable that runs the tests.
  const path = `${dirname(process.execPath)}:${plainEnvironment.PATH}`;
  const child = spawn('bash', ['--norc', '-c', line], {
    cwd: directory,
    env: { ...plainEnvironment, PATH: path, ...env },
    // Node's pipes are sockets, and bash acts as a remote shell if its standard input is a socket. So it gets none.
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [stdout, stderr] = [collect(child.stdout), collect(child.stderr)];
  return { code: await endOf(child), stdout: stdout(), stderr: stderr() };
}

/** Calls `look` until `isDone` accepts its result. After `maxMs`, rejects with an error that shows the last result. */
export async function waitUntil<T>(look: () => Promise<T>, isDone: (seen: T) => boolean, maxMs = 60_000): Promise<T> {
  const deadline = Date.now() + maxMs;
  for (;;) {
    const seen = await look();
    if (isDone(seen)) return seen;
    if (Date.now() > deadline) throw new Error(`Timed out after ${maxMs} ms. Last result: ${JSON.stringify(seen)}`);
    await sleep(50);
  }
}

export async function waitUntilReady(url: string): Promise<void> {
  await waitUntil(
    () => fetch(`${url}/ready`).then((answer) => answer.status),
    (status) => status === 200,
  );
}

/** Returns the port, or another free port if it is in use. */
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

/** Returns the URL of the database with which the program connects, if it is given one. */
function servingUrl({ LOOM_PG_URL: url }: Environment): Environment {
  return url === undefined ? {} : { LOOM_PG_URL: nodeUrl(url) };
}

function launch(entry: string, args: string[], env: Environment, logFile?: string) {
  const file = logFile === undefined ? undefined : openSync(logFile, 'wx');
  // A program of an earlier version has another document.
  const isOwn = isTestWorker && (entry === inject('programEntry') || entry === inject('builtEntry'));
  const record = isOwn ? createAnswerRecord() : undefined;
  const recording = record === undefined ? [] : [record.option];
  const child = spawn(process.execPath, [...recording, entry, ...args], {
    cwd: tmpdir(),
    env: { ...plainEnvironment, ...env, ...servingUrl(env) },
    stdio: ['ignore', file ?? 'pipe', 'pipe'],
  });
  if (file !== undefined) closeSync(file);
  // End the process if the test run is aborted.
  const kill = (): void => void child.kill('SIGKILL');
  process.once('exit', kill);
  const stdout = logFile === undefined ? collect(child.stdout) : () => readFileSync(logFile, 'utf8');
  const stderr = collect(child.stderr);
  const ended = endOf(child).finally(() => {
    process.off('exit', kill);
    record?.check();
  });
  return { child, output: () => stdout() + stderr(), ended };
}

function collect(stream: NodeJS.ReadableStream | null): () => string {
  const chunks: Buffer[] = [];
  stream?.on('data', (chunk: Buffer) => void chunks.push(chunk));
  return () => Buffer.concat(chunks).toString('utf8');
}

/** Resolves with the exit code, or with -1 if a signal ended the process. */
function endOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code ?? -1));
  });
}

/** Waits for the log line at `info` that contains the node's URL. Never resolves if the program ends before. */
function listening(child: ChildProcess, output: () => string): Promise<string> {
  return new Promise((resolve) => {
    const look = (): void => {
      const url = /"url":"([^"]+)"[^\n]*"msg":"listening"\}\n/.exec(output())?.[1];
      if (url === undefined) return;
      stop();
      resolve(url);
    };
    // A file tells nobody that it has grown.
    const timer = child.stdout === null ? setInterval(look, 20) : undefined;
    const stop = (): void => {
      clearInterval(timer);
      child.stdout?.off('data', look);
    };
    child.stdout?.on('data', look);
    child.once('close', stop);
  });
}
