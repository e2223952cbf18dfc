import { limits } from '../../limits.ts';
import { WHITESPACE } from '../bytes.ts';
import type { Fail } from './fault.ts';

export interface WhitespaceReader {
  /** Restarts the count after a token. */
  reset(): void;
  /** Reads up to the next token or the end of the chunk. Returns the position after the last byte read. */
  read(chunk: Buffer, from: number): number;
}

/** Reads the whitespace between two tokens, at most `limits.maxWhitespaceBytes`. */
export function createWhitespaceReader(fail: Fail): WhitespaceReader {
  let length = 0;
  return {
    reset() {
      length = 0;
    },
    read(chunk, from) {
      let position = from;
      while (position < chunk.length && WHITESPACE[chunk[position] as number] === 1) position += 1;
      const room = limits.maxWhitespaceBytes - length;
      length += position - from;
      if (length <= limits.maxWhitespaceBytes) return position;
      return fail(
        'body_too_large',
        `Found more than ${limits.maxWhitespaceBytes} bytes of whitespace between two tokens`,
        from + room,
      );
    },
  };
}
