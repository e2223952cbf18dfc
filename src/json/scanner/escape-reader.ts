import { BYTE, showByte } from '../bytes.ts';
import type { Fail } from './fault.ts';
import type { TextOutput } from './text-output.ts';

export interface EscapeReader {
  /** Begins an escape after its backslash. `offset` is that of the backslash in the input. */
  begin(offset: number): void;
  /** Reads one byte. Returns whether it completes the escape. `position` is in the chunk, `offset` in the input. */
  read(byte: number, position: number, offset: number): boolean;
}

const KIND = 0;
const HEX = 1;
const AFTER_HIGH = 2;
const KIND_AFTER_HIGH = 3;

const SHORT_ESCAPES: Record<string, string> = { '\b': '\\b', '\f': '\\f', '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/**
 * Decodes escapes and writes the characters to `output` in PostgreSQL's form. Reads a surrogate pair as one escape.
 * Refuses NUL and lone surrogates, which PostgreSQL cannot store.
 */
export function createEscapeReader(output: TextOutput, fail: Fail): EscapeReader {
  let mode = KIND;
  let startOffset = 0;
  let hexDigits = 0;
  let unit = 0;
  let highSurrogate = 0;

  function readKind(byte: number, position: number, offset: number): boolean {
    const character = String.fromCharCode(byte);
    if (character === 'u') {
      mode = HEX;
      hexDigits = 0;
      unit = 0;
      return false;
    }
    if (mode === KIND_AFTER_HIGH) failSurrogate(position);
    if (character === '/') output.push('/');
    else if (byte <= 0x7f && '"\\bfnrt'.includes(character)) output.push(`\\${character}`);
    else fail('invalid_json', `Invalid escape: found ${showByte(byte)} after a backslash`, position, offset);
    return true;
  }

  function readHex(byte: number, position: number, offset: number): boolean {
    const digit = hexValue(byte);
    if (digit < 0)
      fail('invalid_json', `Expected four hexadecimal digits after \\u, found ${showByte(byte)}`, position, offset);
    unit = unit * 16 + digit;
    hexDigits += 1;
    return hexDigits === 4 && endUnit(position);
  }

  function endUnit(position: number): boolean {
    const isLow = unit >= 0xdc00 && unit <= 0xdfff;
    if (isLow !== (highSurrogate !== 0)) failSurrogate(position);
    if (unit === 0) {
      const message = 'A string contains the character NUL (\\u0000), which PostgreSQL cannot store';
      fail('invalid_string', message, position, startOffset);
    }
    if (unit >= 0xd800 && unit <= 0xdbff) {
      highSurrogate = unit;
      mode = AFTER_HIGH;
      return false;
    }
    output.push(isLow ? String.fromCharCode(highSurrogate, unit) : escapeUnit(unit));
    return true;
  }

  function failSurrogate(position: number): never {
    fail('invalid_string', 'A string contains a lone surrogate, which PostgreSQL cannot store', position, startOffset);
  }

  return {
    begin(offset) {
      mode = KIND;
      startOffset = offset;
      highSurrogate = 0;
    },
    read(byte, position, offset) {
      if (mode === HEX) return readHex(byte, position, offset);
      if (mode !== AFTER_HIGH) return readKind(byte, position, offset);
      if (byte !== BYTE.backslash) failSurrogate(position);
      mode = KIND_AFTER_HIGH;
      return false;
    },
  };
}

/** Returns one UTF-16 unit, which is not a surrogate, in the form of PostgreSQL's `escape_json`. */
function escapeUnit(unit: number): string {
  const character = String.fromCharCode(unit);
  if (character === '"' || character === '\\') return `\\${character}`;
  if (unit >= 0x20) return character;
  return SHORT_ESCAPES[character] ?? `\\u${unit.toString(16).padStart(4, '0')}`;
}

function hexValue(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const letter = byte | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}
