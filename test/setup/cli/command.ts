// Room `cli`: runs LOOM's commands in tests, against a node behind a proxy. It may import `node`.

import type { Command, CommandContext } from '../../../src/cli/command.ts';

export interface CommandRun {
  code: number;
  stdout: string;
  stderr: string;
}

export interface CommandOptions {
  env?: Record<string, string>;
  /** The answers to the questions, in turn. Undefined simulates a missing terminal. */
  answers?: string[] | ((question: string) => Promise<string>);
  stop?: AbortSignal;
  isWatched?: boolean;
}

/** Runs a command in this process, as the program does. Rejects with the error that the command throws. */
export async function runCommand(command: Command, args: string[], options: CommandOptions = {}): Promise<CommandRun> {
  const { env = {}, answers, stop = new AbortController().signal, isWatched = false } = options;
  const written = { stdout: '', stderr: '' };
  const left = Array.isArray(answers) ? [...answers] : [];
  const ask = typeof answers === 'function' ? answers : async () => left.shift() ?? '';
  const context: CommandContext = {
    args,
    env,
    stop,
    isWatched,
    ask: answers === undefined ? undefined : ask,
    write: (text) => {
      written.stdout += text;
    },
    writeError: (text) => {
      written.stderr += text;
    },
  };
  const code = await command.run(context);
  return { code, ...written };
}
