import { limits } from '../limits.ts';
import { WHITESPACE } from './bytes.ts';
import type { Fail } from './string-reader.ts';

export interface WhitespaceReader {
  /** Something else has been read. */
  reset(): void;
  /** Reads on up to what is no whitespace, or the chunk's end; returns the position behind what was read. */
  read(chunk: Buffer, from: number): number;
}

/** Reads what stands between two tokens, within `limits.maxWhitespaceBytes`. */
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
        `More than ${limits.maxWhitespaceBytes} bytes of whitespace in one place`,
        from + room,
      );
    },
  };
}
