import { once } from 'node:events';
import { createInterface } from 'node:readline/promises';
import { type CommandContext, stopRequested } from '../command.ts';

export interface TerminalOptions {
  input: NodeJS.ReadStream;
  output: NodeJS.WriteStream;
  stop: AbortSignal;
  /** What Ctrl-C is to do while a question is open: the terminal then hands over the key and not the signal. */
  interrupt(): void;
}

/** A way to ask, if both are a terminal. An end of the input, or a stop, is an empty answer. */
export function createAsk({ input, output, stop, interrupt }: TerminalOptions): CommandContext['ask'] {
  if (!input.isTTY || !output.isTTY) return undefined;
  return async (question) => {
    if (stop.aborted) return '';
    const lines = createInterface({ input, output });
    lines.on('SIGINT', interrupt);
    const ended = Promise.race([once(lines, 'close'), stopRequested(stop)]).then(() => undefined);
    // Ctrl-D rejects the question.
    const typed = lines.question(question).catch(() => undefined);
    try {
      const answer = await Promise.race([typed, ended]);
      // What is said next is not to stand behind the question.
      if (answer === undefined) output.write('\n');
      return answer ?? '';
    } finally {
      lines.close();
    }
  };
}
