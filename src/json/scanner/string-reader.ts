import { BYTE, ENDS_PLAIN_RUN, showByte } from '../bytes.ts';
import { createCharacterReader } from './character-reader.ts';
import { createEscapeReader } from './escape-reader.ts';
import type { Fail } from './fault.ts';
import type { TextOutput } from './text-output.ts';

export interface StringReader {
  /** Begins a string after its opening quote. */
  begin(): void;
  /** Reads up to the closing quote or the end of the chunk. Returns the position after the last byte read. */
  read(chunk: Buffer, from: number, base: number): number;
  isClosed(): boolean;
}

const PLAIN = 0;
const IN_CHARACTER = 1;
const IN_ESCAPE = 2;

/** Reads strings and writes them to `output`. Checks UTF-8, control characters and escapes. */
export function createStringReader(output: TextOutput, fail: Fail): StringReader {
  const characters = createCharacterReader(fail);
  const escapes = createEscapeReader(output, fail);
  let mode = PLAIN;
  let closed = false;

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
        if (characters.read(chunk[position] as number, position)) mode = PLAIN;
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
      mode = IN_CHARACTER;
      characters.begin(byte, position, offset);
    } else {
      fail('invalid_json', `A string contains a control character (${showByte(byte)})`, position, offset);
    }
  }

  return {
    read,
    begin() {
      mode = PLAIN;
      closed = false;
    },
    isClosed: () => closed,
  };
}
