import { once } from 'node:events';
import { createInterface } from 'node:readline/promises';
import type { CommandContext } from '../command.ts';

export interface TerminalOptions {
  input: NodeJS.ReadStream;
  output: NodeJS.WriteStream;
  stop: AbortSignal;
  /** Handles Ctrl-C while a question is open: the terminal then delivers the key instead of the signal. */
  interrupt(): void;
}

/** Returns a function that asks, if both streams are terminals. End of input or a stop counts as an empty answer. */
export function createAsk({ input, output, stop, interrupt }: TerminalOptions): CommandContext['ask'] {
  if (!input.isTTY || !output.isTTY) return undefined;
  return async (question) => {
    if (stop.aborted) return '';
    const lines = createInterface({ input, output });
    lines.on('SIGINT', interrupt);
    const ended = once(lines, 'close').then(() => undefined);
    // Ctrl-D and a stop reject the question.
    const typed = lines.question(question, { signal: stop }).catch(() => undefined);
    try {
      const answer = await Promise.race([typed, ended]);
      // The next output begins on a line of its own.
      if (answer === undefined) output.write('\n');
      return answer ?? '';
    } finally {
      lines.close();
    }
  };
}
