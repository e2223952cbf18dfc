import { showByte } from '../bytes.ts';
import type { Fail } from './fault.ts';

export interface CharacterReader {
  /** Begins a non-ASCII character with its first byte. `position` is in the chunk, `offset` in the input. */
  begin(byte: number, position: number, offset: number): void;
  /** Reads one more byte. Returns whether it completes the character. */
  read(byte: number, position: number): boolean;
}

/** Checks UTF-8 byte by byte (RFC 3629 §4): no overlong forms, no surrogates, nothing above U+10FFFF. */
export function createCharacterReader(fail: Fail): CharacterReader {
  let startOffset = 0;
  /** Number of missing continuation bytes, and the bounds of the next one. */
  let missing = 0;
  let lowest = 0x80;
  let highest = 0xbf;
  return {
    begin(byte, position, offset) {
      if (byte < 0xc2 || byte > 0xf4)
        fail('invalid_utf8', `Invalid UTF-8: ${showByte(byte)} does not begin a character`, position, offset);
      missing = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
      lowest = byte === 0xe0 ? 0xa0 : byte === 0xf0 ? 0x90 : 0x80;
      highest = byte === 0xed ? 0x9f : byte === 0xf4 ? 0x8f : 0xbf;
      startOffset = offset;
    },
    read(byte, position) {
      if (byte < lowest || byte > highest)
        fail('invalid_utf8', `Invalid UTF-8: ${showByte(byte)} does not continue a character`, position, startOffset);
      lowest = 0x80;
      highest = 0xbf;
      missing -= 1;
      return missing === 0;
    },
  };
}
