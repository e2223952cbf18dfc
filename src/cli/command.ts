import { readFileSync } from 'node:fs';
import { type Config, parseConfig, parseDatabaseConfig } from '../config/config.ts';

/** sysexits.h EX_USAGE: the command line is wrong. */
export const USAGE_EXIT_CODE = 64;

export interface CommandContext {
  args: string[];
  env: Record<string, string | undefined>;
  /** Aborted when the process is asked to stop. */
  stop: AbortSignal;
  /** Writes to standard output. */
  write(text: string): void;
  /** Writes to standard error. */
  writeError(text: string): void;
  /** Whether somebody watches standard error: progress is for them. */
  isWatched: boolean;
  /** Asks on the terminal and resolves with the line that was typed; undefined where there is no terminal. */
  ask: ((question: string) => Promise<string>) | undefined;
}

export interface Command {
  /** One line for the usage text. */
  summary: string;
  /** Resolves with the exit code. */
  run(context: CommandContext): Promise<number>;
  /** Whether it takes arguments; otherwise they are refused, because somebody meant something by them. */
  takesArguments?: true;
}

export const readFile = (path: string): string => readFileSync(path, 'utf8');

/** Throws a ConfigError that lists every problem. */
export function readConfig(env: CommandContext['env']): Config {
  return parseConfig(env, { readFile });
}

/** As `readConfig`, for a command that needs the database only. */
export function readDatabaseConfig(env: CommandContext['env']): Pick<Config, 'postgres' | 'log'> {
  return parseDatabaseConfig(env, { readFile });
}

/** Resolves when the process is asked to stop. */
export function stopRequested(stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (stop.aborted) resolve();
    else stop.addEventListener('abort', () => resolve(), { once: true });
  });
}
