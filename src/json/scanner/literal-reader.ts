import { showByte } from '../bytes.ts';
import type { Fail } from './fault.ts';

export interface LiteralReader {
  /** Begins a literal after its first byte. */
  begin(first: number): void;
  /** Reads up to the end of the literal or of the chunk. Returns the position after the last byte read. */
  read(chunk: Buffer, from: number): number;
  isClosed(): boolean;
}

/** Reads `true`, `false` and `null`. */
export function createLiteralReader(fail: Fail): LiteralReader {
  let literal = '';
  let index = 0;
  return {
    begin(first) {
      literal = first === 0x74 ? 'true' : first === 0x66 ? 'false' : 'null';
      index = 1;
    },
    read(chunk, from) {
      let position = from;
      while (position < chunk.length && index < literal.length) {
        const byte = chunk[position] as number;
        if (byte !== literal.charCodeAt(index)) {
          fail('invalid_json', `Expected '${literal}', found ${showByte(byte)}`, position);
        }
        position += 1;
        index += 1;
      }
      return position;
    },
    isClosed: () => index === literal.length,
  };
}
