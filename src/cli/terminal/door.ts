import { oneLine, printable } from '../../json/printable.ts';

/** The streams of a command, as the program or a test provides them. */
interface Streams {
  write(text: string): void;
  writeError(text: string): void;
  ask: ((question: string) => Promise<string>) | undefined;
}

/** Clears the current line of a terminal. */
export const CLEAR_LINE = '\r\x1b[2K';

/**
 * Wraps the streams of a command, so that no text of a node, a file or a user reaches a terminal with control
 * characters. Only a progress line has some: it begins with `CLEAR_LINE`.
 */
export function openDoor<Given extends Streams>(streams: Given): Given {
  const { ask } = streams;
  return {
    ...streams,
    write: (text) => streams.write(printable(text)),
    writeError: (text) => {
      const isLine = text.startsWith(CLEAR_LINE);
      streams.writeError(isLine ? `${CLEAR_LINE}${oneLine(text.slice(CLEAR_LINE.length))}` : printable(text));
    },
    ask: ask === undefined ? undefined : (question) => ask(printable(question)),
  };
}
