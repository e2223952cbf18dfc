import { BYTE, ENDS_PLAIN_RUN, OF_NUMBER } from './bytes.ts';
import { exactNormalNumber, isPlainlyNormal } from './exact-number.ts';

// LOOM writes its backups in canonical form, so most values need no scan token by token: these functions recognize the
// form in one pass over the bytes. They return -1 in doubt. The scanner then reads the value, and finds its faults.

/** Marks a value that is not in canonical form, or of which the bytes lack the end. */
const UNKNOWN = -1;

const SHORT_ESCAPES = '"\\bfnrt';
const [T, F, N] = [0x74, 0x66, 0x6e];

/**
 * Returns the end of the value at `start` if it is in canonical form, the text that `canonicalize` returns for it;
 * otherwise -1. `levels` bounds its nesting (`[]` has 1).
 */
export function endOfCanonical(bytes: Buffer, start: number, levels: number): number {
  return endOfValue(bytes, start, levels);
}

/** Describes an object whose first member was read before the others. Positions are of the bytes. */
export interface FirstMember {
  /** Where its name begins, and where its value ends. */
  nameStart: number;
  valueEnd: number;
  /** Receives the places of all members, as in `CapturedValue.members`. */
  members: number[];
  /** The position from which these count. */
  origin: number;
}

/**
 * Returns the end of an object if it is in canonical form after its first member. No other member may have the name of
 * the first.
 */
export function endOfCanonicalAfter(bytes: Buffer, first: FirstMember, levels: number): number {
  const { nameStart, valueEnd, members, origin } = first;
  const nameEnd = endOfName(bytes, nameStart);
  if (nameEnd < 0) return UNKNOWN;
  members.push(nameStart - origin, nameEnd - origin, valueEnd - origin);
  const end = endOfMembers(bytes, valueEnd + 1, levels - 1, first);
  if (end < 0) return UNKNOWN;
  for (let index = 3; index < members.length; index += 3) {
    const start = origin + (members[index] as number);
    if (isSame(bytes, start, origin + (members[index + 1] as number), nameStart, nameEnd)) return UNKNOWN;
  }
  return end;
}

/**
 * Returns where the second member of an object begins, if the first has this name, which is plain, and a string as its
 * value, without spaces; otherwise -1.
 */
export function startOfSecondMember(bytes: Buffer, start: number, first: string): number {
  const colon = start + first.length + 3;
  if (bytes[start + 1] !== BYTE.quote || bytes[colon - 1] !== BYTE.quote) return UNKNOWN;
  if (bytes[start] !== BYTE.openBrace || bytes[colon] !== BYTE.colon || bytes[colon + 1] !== BYTE.quote) return UNKNOWN;
  for (let index = 0; index < first.length; index += 1) {
    if (bytes[start + 2 + index] !== first.charCodeAt(index)) return UNKNOWN;
  }
  const end = endOfString(bytes, colon + 1);
  return end >= 0 && bytes[end] === BYTE.comma ? end + 1 : UNKNOWN;
}

/** Returns the end of a name in quotes without escapes; otherwise -1. */
function endOfName(bytes: Buffer, start: number): number {
  const end = bytes[start] === BYTE.quote ? endOfString(bytes, start) : UNKNOWN;
  return end < 0 || bytes.subarray(start, end).includes(BYTE.backslash) ? UNKNOWN : end;
}

function endOfValue(bytes: Buffer, start: number, levels: number): number {
  switch (bytes[start]) {
    case BYTE.quote:
      return endOfString(bytes, start);
    case BYTE.openBrace:
      if (levels === 0) return UNKNOWN;
      return bytes[start + 1] === BYTE.closeBrace ? start + 2 : endOfMembers(bytes, start + 1, levels - 1);
    case BYTE.openBracket:
      if (levels === 0) return UNKNOWN;
      return bytes[start + 1] === BYTE.closeBracket ? start + 2 : endOfElements(bytes, start + 1, levels - 1);
    case T:
      return endOfLiteral(bytes, start, 'true');
    case F:
      return endOfLiteral(bytes, start, 'false');
    case N:
      return endOfLiteral(bytes, start, 'null');
    default:
      return endOfNumber(bytes, start);
  }
}

/** Reads members up to the closing brace. Their names must ascend, so none occurs twice. */
function endOfMembers(bytes: Buffer, start: number, levels: number, first?: FirstMember): number {
  let position = start;
  let previousStart = 0;
  let previousEnd = 0;
  for (;;) {
    if (bytes[position] !== BYTE.quote) return UNKNOWN;
    let end = position + 1;
    const length = bytes.length;
    while (end < length && ENDS_PLAIN_RUN[bytes[end] as number] === 0) end += 1;
    if (bytes[end] !== BYTE.quote) {
      // Few names have other characters than plain ones.
      end = endOfName(bytes, position) - 1;
      if (end < 0) return UNKNOWN;
    }
    end += 1;
    if (previousEnd > 0 && !isAfter(bytes, position, end, previousStart, previousEnd)) return UNKNOWN;
    previousStart = position;
    previousEnd = end;
    if (bytes[end] !== BYTE.colon || bytes[end + 1] !== BYTE.space) return UNKNOWN;
    position = endOfValue(bytes, end + 2, levels);
    if (position < 0) return UNKNOWN;
    first?.members.push(previousStart - first.origin, previousEnd - first.origin, position - first.origin);
    const next = bytes[position];
    if (next === BYTE.closeBrace) return position + 1;
    if (next !== BYTE.comma || bytes[position + 1] !== BYTE.space) return UNKNOWN;
    position += 2;
  }
}

function endOfElements(bytes: Buffer, start: number, levels: number): number {
  let position = start;
  for (;;) {
    position = endOfValue(bytes, position, levels);
    if (position < 0) return UNKNOWN;
    const next = bytes[position];
    if (next === BYTE.closeBracket) return position + 1;
    if (next !== BYTE.comma || bytes[position + 1] !== BYTE.space) return UNKNOWN;
    position += 2;
  }
}

function endOfString(bytes: Buffer, start: number): number {
  const { length } = bytes;
  let position = start + 1;
  for (;;) {
    while (position < length && ENDS_PLAIN_RUN[bytes[position] as number] === 0) position += 1;
    if (position >= length) return UNKNOWN;
    const byte = bytes[position] as number;
    if (byte === BYTE.quote) return position + 1;
    if (byte === BYTE.backslash) {
      // PostgreSQL writes other control characters as \u00XX. They are rare.
      const kind = bytes[position + 1] ?? 0;
      if (!SHORT_ESCAPES.includes(String.fromCharCode(kind))) return UNKNOWN;
      position += 2;
    } else {
      position = endOfCharacter(bytes, position, byte);
      if (position < 0) return UNKNOWN;
    }
  }
}

/** Reads a non-ASCII character (RFC 3629 §4): no overlong forms, no surrogates, nothing above U+10FFFF. */
function endOfCharacter(bytes: Buffer, start: number, first: number): number {
  const second = bytes[start + 1] ?? 0;
  if (first >= 0xc2 && first <= 0xdf) return isContinuation(second) ? start + 2 : UNKNOWN;
  const third = bytes[start + 2] ?? 0;
  if (!isContinuation(second) || !isContinuation(third)) return UNKNOWN;
  if (first >= 0xe0 && first <= 0xef) {
    if ((first === 0xe0 && second < 0xa0) || (first === 0xed && second > 0x9f)) return UNKNOWN;
    return start + 3;
  }
  if (first < 0xf0 || first > 0xf4 || !isContinuation(bytes[start + 3] ?? 0)) return UNKNOWN;
  if ((first === 0xf0 && second < 0x90) || (first === 0xf4 && second > 0x8f)) return UNKNOWN;
  return start + 4;
}

function isContinuation(byte: number): boolean {
  return byte >= 0x80 && byte <= 0xbf;
}

function endOfNumber(bytes: Buffer, start: number): number {
  let end = start;
  while (end < bytes.length && OF_NUMBER[bytes[end] as number] === 1) end += 1;
  // At the end of the bytes, the number may continue.
  if (end === bytes.length) return UNKNOWN;
  if (isPlainlyNormal(bytes, start, end)) return end;
  const text = bytes.toString('latin1', start, end);
  return text !== '' && exactNormalNumber(text) === text && !text.includes('e') ? end : UNKNOWN;
}

function endOfLiteral(bytes: Buffer, start: number, literal: string): number {
  for (let index = 1; index < literal.length; index += 1) {
    if (bytes[start + index] !== literal.charCodeAt(index)) return UNKNOWN;
  }
  return start + literal.length;
}

/** Compares two names without escapes in PostgreSQL's order: by length in bytes, then byte by byte. */
function isAfter(bytes: Buffer, start: number, end: number, otherStart: number, otherEnd: number): boolean {
  const length = end - start;
  const otherLength = otherEnd - otherStart;
  if (length !== otherLength) return length > otherLength;
  for (let index = 0; index < length; index += 1) {
    const difference = (bytes[start + index] as number) - (bytes[otherStart + index] as number);
    if (difference !== 0) return difference > 0;
  }
  return false;
}

function isSame(bytes: Buffer, start: number, end: number, otherStart: number, otherEnd: number): boolean {
  if (end - start !== otherEnd - otherStart) return false;
  for (let index = 0; index < end - start; index += 1) {
    if (bytes[start + index] !== bytes[otherStart + index]) return false;
  }
  return true;
}
