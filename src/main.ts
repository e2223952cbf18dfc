#!/usr/bin/env node
import { config as readDotenv } from 'dotenv';
import { backup } from './cli/backup.ts';
import { type Command, type CommandContext, USAGE_EXIT_CODE } from './cli/command.ts';
import { dev } from './cli/dev.ts';
import { drill } from './cli/drill.ts';
import { healthcheck } from './cli/healthcheck.ts';
import { inspect } from './cli/inspect.ts';
import { migrate } from './cli/migrate.ts';
import { restore } from './cli/restore.ts';
import { serve } from './cli/serve.ts';
import { status } from './cli/status.ts';
import { createAsk } from './cli/terminal/ask.ts';
import { undo } from './cli/undo.ts';
import { verify } from './cli/verify.ts';
import { CONFIG_EXIT_CODE, ConfigError } from './config/config.ts';
import { readVersion } from './version.ts';

const version: Command = {
  summary: 'print the version',
  run: async ({ write }) => {
    write(`${readVersion()}\n`);
    return 0;
  },
};

const commands: Record<string, Command> = {
  serve,
  migrate,
  backup,
  restore,
  undo,
  status,
  drill,
  verify,
  inspect,
  healthcheck,
  dev,
  version,
};

/** argv → command → exit code. The only place that exits, handles signals, and reads the environment. */
async function main(argv: string[]): Promise<number> {
  const [given = 'help', ...args] = argv;
  const name = given === '--version' ? 'version' : given;
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command === undefined) {
    const known = name === 'help' || name === '--help' || name === '-h';
    (known ? process.stdout : process.stderr).write(`${known ? '' : `Unknown command: ${name}\n\n`}${usage()}`);
    return known ? 0 : USAGE_EXIT_CODE;
  }
  if (args.length > 0 && command.takesArguments !== true) {
    process.stderr.write(
      `${name} takes no arguments: it is configured by the environment. See docs/configuration.md.\n`,
    );
    return USAGE_EXIT_CODE;
  }
  outliveReaders();
  readDotenv({ quiet: true });
  const stop = stopSignal();
  const context: CommandContext = {
    args,
    env: process.env,
    stop,
    write: (text) => process.stdout.write(text),
    writeError: (text) => process.stderr.write(text),
    isWatched: process.stderr.isTTY,
    ask: createAsk({
      input: process.stdin,
      output: process.stderr,
      stop,
      interrupt: () => process.kill(process.pid, 'SIGINT'),
    }),
  };
  try {
    return await exitCodeAfterOutput(await command.run(context));
  } catch (error) {
    if (error instanceof ConfigError) {
      process.stderr.write(`${error.message}\n`);
      return CONFIG_EXIT_CODE;
    }
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
}

/** What could not be written to standard output, though somebody wants to read it: a disk that is full. */
let outputFault: NodeJS.ErrnoException | undefined;

/** Who reads the output may stop reading, as `head` does: the rest is for nobody, and the command goes on to its end. */
function outliveReaders(): void {
  process.stderr.on('error', () => undefined);
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE' && error.code !== 'ERR_STREAM_DESTROYED') outputFault ??= error;
  });
}

/** The command has done what it did; but who has asked for its words has not got them. */
async function exitCodeAfterOutput(code: number): Promise<number> {
  await new Promise((resolve) => setImmediate(resolve));
  if (outputFault === undefined) return code;
  process.stderr.write(
    `Standard output could not be written (${outputFault.code ?? outputFault.message}). The command itself ended with ${code}.\n`,
  );
  return code === 0 ? 1 : code;
}

/** A terminal and a wrapper such as npm may both hand over the same Ctrl-C. */
const SAME_SIGNAL_MS = 1_000;

/** Aborts at the first SIGTERM or SIGINT; at another one that comes later, the process ends at once. */
function stopSignal(): AbortSignal {
  const controller = new AbortController();
  let stoppedAt = 0;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (controller.signal.aborted && performance.now() - stoppedAt > SAME_SIGNAL_MS) process.exit(1);
      if (!controller.signal.aborted) stoppedAt = performance.now();
      controller.abort();
    });
  }
  return controller.signal;
}

function usage(): string {
  const lines = Object.entries(commands).map(([name, command]) => `  ${name.padEnd(12)} ${command.summary}`);
  return `Usage: node dist/main.js <command>\n\n${lines.join('\n')}\n\nConfiguration comes from the environment and .env: see docs/configuration.md.\n`;
}

process.exit(await main(process.argv.slice(2)));
