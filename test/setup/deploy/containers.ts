import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { waitUntil } from '../node/program.ts';
import { runToEnd, type ToolResult } from './tools.ts';

export interface Mount {
  source: string;
  target: string;
  writable?: boolean;
}

/** What a container runs, and with what. It has no capabilities, and the network of the machine. */
export interface ContainerOptions {
  /** Arguments of the image's entry point; by default those of the image. */
  args?: readonly string[];
  /** A command line instead of the entry point. */
  command?: readonly string[];
  env?: Record<string, string>;
  mounts?: readonly Mount[];
  /** Lets the container write to its root file system where its user may. By default, it is read-only. */
  writable?: boolean;
}

/** Runs containers of one image. Command lines begin with the program. */
export interface Runtime {
  /** Prepares a container, and returns the command line that runs it in the foreground and removes it at its end. */
  run(name: string, options: ContainerOptions): Promise<string[]>;
  exec(name: string, command: readonly string[]): string[];
  signal(name: string, signal: 'KILL' | 'TERM'): string[];
  /** Returns the command line that prints the state of a container as JSON, with its `pid` or `Pid`. */
  state(name: string): string[];
}

export interface Container {
  /** The pid of its first process, as this machine counts. */
  pid: number;
  /** Returns everything written to standard output and standard error so far. */
  output(): string;
  /** Runs another command in it. */
  exec(command: readonly string[]): Promise<ToolResult>;
  /** Sends SIGTERM to its first process, as an engine does to stop it. Resolves with its exit code. */
  stop(): Promise<number>;
  /** Ends it by force. May be called after its end. */
  kill(): Promise<void>;
}

/** Runs a container to its end. */
export async function runContainer(runtime: Runtime, options: ContainerOptions): Promise<ToolResult> {
  return await runToEnd(await runtime.run(newName(), options));
}

/** Starts a container. Resolves when its first process exists. */
export async function startContainer(runtime: Runtime, options: ContainerOptions): Promise<Container> {
  const name = newName();
  const child = spawn(...splitCommand(await runtime.run(name, options)), { stdio: ['ignore', 'pipe', 'pipe'] });
  const chunks: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => void chunks.push(chunk));
  const output = (): string => Buffer.concat(chunks).toString('utf8');
  // End the container if the test run is aborted.
  const abort = (): void => void spawnSync(...splitCommand(runtime.signal(name, 'KILL')));
  process.once('exit', abort);
  const ended = endOf(child).finally(() => process.off('exit', abort));
  const kill = async (): Promise<void> => {
    if (child.exitCode === null) await runToEnd(runtime.signal(name, 'KILL'));
    await ended;
  };
  const pid = await waitUntil(
    async () => readPid(await runToEnd(runtime.state(name))),
    (found) => found > 0 || child.exitCode !== null,
  ).catch(() => 0);
  if (pid === 0) await kill();
  if (pid === 0) throw new Error(`The container ended with ${await ended}: ${output()}`);
  return {
    pid,
    output,
    exec: (command) => runToEnd(runtime.exec(name, command)),
    stop: async () => {
      await runToEnd(runtime.signal(name, 'TERM'));
      return await ended;
    },
    kill,
  };
}

function splitCommand([program = '', ...args]: string[]): [string, string[]] {
  return [program, args];
}

function newName(): string {
  return `loom-test-${randomBytes(4).toString('hex')}`;
}

function readPid({ code, stdout }: ToolResult): number {
  const { pid, Pid } = (code === 0 ? JSON.parse(stdout) : {}) as { pid?: number; Pid?: number };
  return pid ?? Pid ?? 0;
}

async function endOf(child: ChildProcess): Promise<number> {
  const [code] = (await once(child, 'close')) as [number | null];
  return code ?? -1;
}
