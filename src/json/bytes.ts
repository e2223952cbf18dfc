import type { JsonType } from './visit.ts';

/** Names the bytes with a meaning in JSON's grammar (RFC 8259). The tables below classify a byte in one look-up. */
export const BYTE = {
  space: 0x20,
  quote: 0x22,
  plus: 0x2b,
  comma: 0x2c,
  minus: 0x2d,
  point: 0x2e,
  slash: 0x2f,
  zero: 0x30,
  nine: 0x39,
  colon: 0x3a,
  openBracket: 0x5b,
  backslash: 0x5c,
  closeBracket: 0x5d,
  openBrace: 0x7b,
  closeBrace: 0x7d,
} as const;

/** Maps to 1 the bytes that end a plain run in a string: quote, backslash, control characters, non-ASCII. */
export const ENDS_PLAIN_RUN = table(
  (byte) => byte < 0x20 || byte === BYTE.quote || byte === BYTE.backslash || byte > 0x7f,
);

/** Maps to 1 the bytes that a number may contain. The scanner checks a run of them as one token. */
export const OF_NUMBER = table(
  (byte) => (byte >= BYTE.zero && byte <= BYTE.nine) || '+-.eE'.includes(String.fromCharCode(byte)),
);

/** Maps to 1 the decimal digits. */
export const DIGIT = table((byte) => byte >= BYTE.zero && byte <= BYTE.nine);

/** Maps to 1 the digits of lower-case hex. */
export const HEX_DIGIT = table((byte) => '0123456789abcdef'.includes(String.fromCharCode(byte)));

/** Maps to 1 JSON's four whitespace characters. */
export const WHITESPACE = table((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d);

/** Returns the type of a value that begins with this byte; undefined when no value does. */
export function typeOf(byte: number): JsonType | undefined {
  switch (byte) {
    case BYTE.openBrace:
      return 'object';
    case BYTE.openBracket:
      return 'array';
    case BYTE.quote:
      return 'string';
    case 0x74:
    case 0x66:
      return 'boolean';
    case 0x6e:
      return 'null';
    default:
      return byte === BYTE.minus || (byte >= BYTE.zero && byte <= BYTE.nine) ? 'number' : undefined;
  }
}

/** Formats a byte for an error message: ASCII as a character, any other byte in hex. */
export function showByte(byte: number): string {
  return byte > 0x20 && byte < 0x7f ? `'${String.fromCharCode(byte)}'` : `byte 0x${byte.toString(16).padStart(2, '0')}`;
}

/** Maps to 1 the bytes for which `isIn` returns true. */
export function table(isIn: (byte: number) => boolean): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, byte) => (isIn(byte) ? 1 : 0));
}
