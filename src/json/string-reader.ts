import type { ErrorCode } from '../errors.ts';
import { BYTE, ENDS_PLAIN_RUN, showByte } from './bytes.ts';
import type { SpanOutput } from './output.ts';

/** Throws. `position` is where reading stands in the chunk; `faultOffset` what the error points at, if it is not that byte. */
export type Fail = (code: ErrorCode, message: string, position: number, faultOffset?: number) => never;

export interface StringReader {
  /** A string begins; its opening quote has been read. */
  begin(): void;
  /** Reads on in the string, up to its closing quote or the chunk's end; returns the position behind what was read. */
  read(chunk: Buffer, from: number, base: number): number;
  /** The closing quote has been read. */
  readonly closed: boolean;
}

const PLAIN = 0;
const IN_CHARACTER = 1;
const ESCAPE = 2;
const HEX = 3;
const AFTER_HIGH = 4;
const ESCAPE_AFTER_HIGH = 5;

const SHORT_ESCAPES: Record<string, string> = { '\b': '\\b', '\f': '\\f', '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/**
 * Reads strings into `output`: bytes as they are, escapes decoded and written as PostgreSQL writes them. Checks UTF-8
 * (RFC 3629 §4), control characters, escapes, surrogates and NUL.
 */
export function createStringReader(output: SpanOutput, fail: Fail): StringReader {
  let mode = PLAIN;
  let closed = false;
  /** Offset in the input of the character, escape or surrogate pair under way. */
  let startOffset = 0;
  /** Continuation bytes still to come, and the bounds of the next one. */
  let missing = 0;
  let lowest = 0x80;
  let highest = 0xbf;
  let hexDigits = 0;
  let unit = 0;
  let highSurrogate = 0;

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
      } else if (mode === HEX) {
        continueHex(chunk[position] as number, position, base + position);
        position += 1;
      } else {
        continueEscape(chunk[position] as number, position, base + position);
        position += 1;
      }
    }
    return position;
  }

  function leaveRun(chunk: Buffer, byte: number, position: number, offset: number): void {
    if (byte === BYTE.backslash) {
      output.cut(chunk, position);
      mode = ESCAPE;
      startOffset = offset;
    } else if (byte > 0x7f) {
      beginCharacter(byte, position, offset);
    } else {
      fail('invalid_json', `A control character (${showByte(byte)}) in a string must be escaped`, position, offset);
    }
  }

  function beginCharacter(byte: number, position: number, offset: number): void {
    if (byte < 0xc2 || byte > 0xf4)
      fail('invalid_utf8', `${showByte(byte)} begins no UTF-8 character`, position, offset);
    missing = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
    lowest = byte === 0xe0 ? 0xa0 : byte === 0xf0 ? 0x90 : 0x80;
    highest = byte === 0xed ? 0x9f : byte === 0xf4 ? 0x8f : 0xbf;
    mode = IN_CHARACTER;
    startOffset = offset;
  }

  function continueCharacter(byte: number, position: number): void {
    if (byte < lowest || byte > highest) {
      fail('invalid_utf8', `${showByte(byte)} does not continue a UTF-8 character`, position, startOffset);
    }
    lowest = 0x80;
    highest = 0xbf;
    missing -= 1;
    if (missing === 0) mode = PLAIN;
  }

  function continueEscape(byte: number, position: number, offset: number): void {
    if (mode === AFTER_HIGH) {
      if (byte !== BYTE.backslash) failSurrogate(position);
      mode = ESCAPE_AFTER_HIGH;
      return;
    }
    const character = String.fromCharCode(byte);
    if (character === 'u') {
      mode = HEX;
      hexDigits = 0;
      unit = 0;
      return;
    }
    if (mode === ESCAPE_AFTER_HIGH) failSurrogate(position);
    if (character === '/') output.push('/');
    else if (byte <= 0x7f && '"\\bfnrt'.includes(character)) output.push(`\\${character}`);
    else fail('invalid_json', `${showByte(byte)} after a backslash is no escape`, position, offset);
    mode = PLAIN;
  }

  function continueHex(byte: number, position: number, offset: number): void {
    const digit = hexValue(byte);
    if (digit < 0)
      fail('invalid_json', `Expected four hexadecimal digits after \\u, found ${showByte(byte)}`, position, offset);
    unit = unit * 16 + digit;
    hexDigits += 1;
    if (hexDigits === 4) endUnit(position);
  }

  function endUnit(position: number): void {
    const low = unit >= 0xdc00 && unit <= 0xdfff;
    if (highSurrogate !== 0 && !low) failSurrogate(position);
    if (highSurrogate === 0 && low) failSurrogate(position);
    if (unit === 0) fail('invalid_string', 'A string must not hold the character NUL (\\u0000)', position, startOffset);
    if (unit >= 0xd800 && unit <= 0xdbff) {
      highSurrogate = unit;
      mode = AFTER_HIGH;
      return;
    }
    output.push(highSurrogate === 0 ? spell(unit) : String.fromCharCode(highSurrogate, unit));
    highSurrogate = 0;
    mode = PLAIN;
  }

  function failSurrogate(position: number): never {
    fail('invalid_string', 'A string must not hold a lone surrogate', position, startOffset);
  }

  return {
    read,
    begin() {
      mode = PLAIN;
      closed = false;
      highSurrogate = 0;
    },
    get closed() {
      return closed;
    },
  };
}

/** One UTF-16 unit that is no surrogate, as PostgreSQL's `escape_json` spells it. */
function spell(unit: number): string {
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
