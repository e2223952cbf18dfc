/**
 * The commands, one file each. They share terminal/ (text, questions, progress), file/ (files on this machine), client/
 * (requests to a node), drill/ and database/. They may import backup, config, domain, errors, http/client, json,
 * limits, log, node, version, persistence/audit, persistence/connection and persistence/schema. A command must not
 * touch the process: it gets arguments, environment, streams and signals in its CommandContext.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { describeFailure, USAGE_EXIT_CODE } from './failure.ts';
import { type OperandCount, type OptionTypes, type ParsedArguments, parseArguments } from './terminal/arguments.ts';
import { openDoor } from './terminal/door.ts';
import { type CommandHelp, helpText, optionRows } from './terminal/help.ts';
import { jsonLine } from './terminal/text.ts';

/** What the program gives a command. `createCommand` replaces the streams with ones that escape control characters. */
export interface CommandContext {
  args: string[];
  env: Record<string, string | undefined>;
  /** Aborts at the first SIGTERM or SIGINT. */
  stop: AbortSignal;
  write(text: string): void;
  writeError(text: string): void;
  /** Whether standard error is a terminal. Only then do commands show progress. */
  isWatched: boolean;
  /** Asks on the terminal and resolves with the line that was typed. Undefined without a terminal. */
  ask: ((question: string) => Promise<string>) | undefined;
}

export interface Command {
  name: string;
  help: CommandHelp;
  /** Resolves with the exit code. */
  run(context: CommandContext): Promise<number>;
}

/** The result of a command, for people and for programs. */
export interface CommandResult {
  exitCode: number;
  text: string;
  /** Written by `--json`. Its form is documented in docs/client-commands.md. */
  json: object;
}

export interface CommandInput<Given extends OptionTypes> extends ParsedArguments<Given> {
  context: CommandContext;
}

export interface CommandDefinition<Given extends OptionTypes> extends Pick<Command, 'name' | 'help'> {
  options: Given;
  operandCount: OperandCount;
  run(input: CommandInput<Given>): Promise<CommandResult>;
}

/** Creates a command with options. It writes its result or failure as text, or with `--json` as one JSON object. */
export function createCommand<Given extends OptionTypes>(definition: CommandDefinition<Given>): Command {
  const { name, options, operandCount } = definition;
  const help: CommandHelp = {
    ...definition.help,
    options: [...optionRows(options), ['--json', 'write one JSON object instead of text']],
  };
  return {
    name,
    help,
    run: async (host) => {
      const context = openDoor(host);
      let wantsJson = context.args.includes('--json');
      try {
        const parsed = parseArguments(context.args, options, operandCount);
        if (parsed === 'help') {
          context.write(helpText(name, help));
          return 0;
        }
        wantsJson = parsed.wantsJson;
        const { exitCode, text, json } = await definition.run({ ...parsed, context });
        context.write(wantsJson ? jsonLine(json) : text);
        return exitCode;
      } catch (error) {
        const { exitCode, text, isAnswer, json } = describeFailure(name, error);
        if (wantsJson) context.write(jsonLine(json));
        else if (isAnswer) context.write(text);
        if (!isAnswer) context.writeError(text);
        return exitCode;
      }
    },
  };
}

/** Creates a command that takes no options. The environment alone configures it. */
export function createPlainCommand({ name, help, run }: Command): Command {
  return {
    name,
    help,
    run: async (host) => {
      const context = openDoor(host);
      const { args, write, writeError } = context;
      if (args.length === 0) return await run(context);
      if (args.every((argument) => argument === '--help' || argument === '-h')) {
        write(helpText(name, help));
        return 0;
      }
      writeError(`${name} takes no arguments. The environment configures it: see docs/configuration.md.\n`);
      return USAGE_EXIT_CODE;
    },
  };
}

export const readFile = (path: string): string => readFileSync(path, 'utf8');

/** Resolves when `stop` aborts. */
export async function stopRequested(stop: AbortSignal): Promise<void> {
  if (!stop.aborted) await once(stop, 'abort');
}
