import { readFileSync } from 'node:fs';
import { type Config, parseConfig } from '../config.ts';

/** sysexits.h EX_USAGE: the command line is wrong. */
export const USAGE_EXIT_CODE = 64;

export interface CommandContext {
  args: string[];
  env: Record<string, string | undefined>;
  /** Aborted when the process is asked to stop. */
  stop: AbortSignal;
  /** Writes to standard output. */
  write(text: string): void;
}

export interface Command {
  /** One line for the usage text. */
  summary: string;
  /** Resolves with the exit code. */
  run(context: CommandContext): Promise<number>;
}

/** Throws a ConfigError that lists every problem. */
export function readConfig(env: CommandContext['env']): Config {
  return parseConfig(env, { readFile: (path) => readFileSync(path, 'utf8') });
}

/** Resolves when the process is asked to stop. */
export function stopRequested(stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (stop.aborted) resolve();
    else stop.addEventListener('abort', () => resolve(), { once: true });
  });
}
