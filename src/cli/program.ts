import { config as readDotenv } from 'dotenv';
import { CONFIG_EXIT_CODE, ConfigError } from '../config/config.ts';
import { printable } from '../json/printable.ts';
import type { Command, CommandContext } from './command.ts';
import { USAGE_EXIT_CODE } from './failure.ts';
import { loadCommand } from './loaders.ts';
import { createAsk } from './terminal/ask.ts';
import { listText } from './terminal/help.ts';

const aliases: Record<string, string> = { '--version': 'version', '--help': 'help', '-h': 'help' };

/**
 * Runs the command that the arguments name, and ends the process with its exit code. `host` is the process, which only
 * a main file may name. `own` replaces the command of the same name.
 */
export async function runProgram(host: NodeJS.Process, args: string[], own?: Command): Promise<never> {
  const readOutputFault = watchOutput(host);
  const code = await runNamed(host, args, own);
  // The stream reports a failed write on a later turn of the event loop.
  await new Promise((resolve) => setImmediate(resolve));
  const fault = readOutputFault();
  if (fault === undefined) return host.exit(code);
  const reason = fault.code ?? fault.message;
  host.stderr.write(`Could not write to standard output (${reason}). The command ended with exit code ${code}.\n`);
  return host.exit(code === 0 ? 1 : code);
}

async function runNamed(host: NodeJS.Process, args: string[], own: Command | undefined): Promise<number> {
  const [given = 'help', ...rest] = args;
  const name = aliases[given] ?? given;
  const topic = name === 'help' ? rest.find((argument) => !argument.startsWith('-')) : undefined;
  if (name === 'help' && topic === undefined) {
    host.stdout.write(await listAll());
    return 0;
  }
  const wanted = topic ?? name;
  const command = own?.name === wanted ? own : await loadCommand(wanted);
  if (command === undefined) {
    host.stderr.write(`Unknown command: ${printable(wanted)}\n\n${await listAll()}`);
    return USAGE_EXIT_CODE;
  }
  readDotenv({ quiet: true });
  // The client of S3 would write its warning of an old Node.js as plain text into the log. `false` brings it back.
  host.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= 'true';
  return await runCommand(host, command, topic === undefined ? rest : ['--help']);
}

/** Returns the help that lists all commands. It loads all of them. */
async function listAll(): Promise<string> {
  const { commands } = await import('./commands.ts');
  return listText(commands);
}

async function runCommand(host: NodeJS.Process, command: Command, args: string[]): Promise<number> {
  const stop = stopOnSignal(host);
  const context: CommandContext = {
    args,
    env: host.env,
    stop,
    write: (text) => host.stdout.write(text),
    writeError: (text) => host.stderr.write(text),
    isWatched: host.stderr.isTTY,
    ask: createAsk({ input: host.stdin, output: host.stderr, stop, interrupt: () => host.kill(host.pid, 'SIGINT') }),
  };
  try {
    return await command.run(context);
  } catch (error) {
    host.stderr.write(`${printable(error instanceof Error ? error.message : String(error))}\n`);
    return error instanceof ConfigError ? CONFIG_EXIT_CODE : 1;
  }
}

/**
 * Keeps the process alive when a reader such as `head` closes a pipe. Returns a function that returns the first other
 * fault of standard output, such as a full disk.
 */
function watchOutput({ stdout, stderr }: NodeJS.Process): () => NodeJS.ErrnoException | undefined {
  let fault: NodeJS.ErrnoException | undefined;
  stderr.on('error', () => undefined);
  stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE' && error.code !== 'ERR_STREAM_DESTROYED') fault ??= error;
  });
  return () => fault;
}

/** Ignores signals within this time: a terminal and a wrapper such as npm may both deliver the same Ctrl-C. */
const SAME_SIGNAL_MS = 1_000;

/** Lets a command that has almost ended keep its own exit code after a second signal. */
const LAST_MOMENT_MS = 250;

/** Returns a signal that aborts at the first SIGTERM or SIGINT. A later one ends the process at once. */
function stopOnSignal(host: NodeJS.Process): AbortSignal {
  const controller = new AbortController();
  let stoppedAt = 0;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    host.on(signal, () => {
      if (controller.signal.aborted && performance.now() - stoppedAt > SAME_SIGNAL_MS)
        setTimeout(() => host.exit(1), LAST_MOMENT_MS);
      if (!controller.signal.aborted) stoppedAt = performance.now();
      controller.abort();
    });
  }
  return controller.signal;
}
