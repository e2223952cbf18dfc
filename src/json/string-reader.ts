import { BYTE, ENDS_PLAIN_RUN, showByte } from './bytes.ts';
import { createEscapeReader } from './escape-reader.ts';
import type { Fail } from './fault.ts';
import type { TextOutput } from './text-output.ts';

export interface StringReader {
  /** Begins a string whose opening quote has been read. */
  begin(): void;
  /** Reads up to the closing quote or the end of the chunk. Returns the position after the last byte read. */
  read(chunk: Buffer, from: number, base: number): number;
  /** Whether the closing quote has been read. */
  readonly closed: boolean;
}

const PLAIN = 0;
const IN_CHARACTER = 1;
const IN_ESCAPE = 2;

/** Reads strings into `output`. Checks UTF-8 (RFC 3629 §4), control characters and escapes. */
export function createStringReader(output: TextOutput, fail: Fail): StringReader {
  const escapes = createEscapeReader(output, fail);
  let mode = PLAIN;
  let closed = false;
  /** Offset in the input where the current multi-byte character begins. */
  let startOffset = 0;
  /** Number of continuation bytes still to come, and the bounds of the next one. */
  let missing = 0;
  let lowest = 0x80;
  let highest = 0xbf;

  function read(chunk: Buffer, from: number, base: number): number {
    const end = chunk.length;
    let position = from;
    while (position < end) {
      if (mode === PLAIN) {
        output.open(position);
        while (position < end && ENDS_PLAIN_RUN[chunk[position] as number] === 0) position += 1;
        if (position === end) return end;
        const byte = chunk[position] as number;
        position += 1;
        if (byte === BYTE.quote) {
          closed = true;
          return position;
        }
        leaveRun(chunk, byte, position - 1, base + position - 1);
      } else if (mode === IN_CHARACTER) {
        output.open(position);
        continueCharacter(chunk[position] as number, position);
        position += 1;
      } else {
        if (escapes.read(chunk[position] as number, position, base + position)) mode = PLAIN;
        position += 1;
      }
    }
    return position;
  }

  function leaveRun(chunk: Buffer, byte: number, position: number, offset: number): void {
    if (byte === BYTE.backslash) {
      output.cut(chunk, position);
      mode = IN_ESCAPE;
      escapes.begin(offset);
    } else if (byte > 0x7f) {
      beginCharacter(byte, position, offset);
    } else {
      fail(
        'invalid_json',
        `A string contains a control character (${showByte(byte)}) without escape`,
        position,
        offset,
      );
    }
  }

  function beginCharacter(byte: number, position: number, offset: number): void {
    if (byte < 0xc2 || byte > 0xf4)
      fail('invalid_utf8', `Invalid UTF-8: ${showByte(byte)} does not begin a character`, position, offset);
    missing = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
    lowest = byte === 0xe0 ? 0xa0 : byte === 0xf0 ? 0x90 : 0x80;
    highest = byte === 0xed ? 0x9f : byte === 0xf4 ? 0x8f : 0xbf;
    mode = IN_CHARACTER;
    startOffset = offset;
  }

  function continueCharacter(byte: number, position: number): void {
    if (byte < lowest || byte > highest)
      fail('invalid_utf8', `Invalid UTF-8: ${showByte(byte)} does not continue a character`, position, startOffset);
    lowest = 0x80;
    highest = 0xbf;
    missing -= 1;
    if (missing === 0) mode = PLAIN;
  }

  return {
    read,
    begin() {
      mode = PLAIN;
      closed = false;
    },
    get closed() {
      return closed;
    },
  };
}
