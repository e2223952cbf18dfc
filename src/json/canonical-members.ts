import { BYTE, ENDS_PLAIN_RUN } from './bytes.ts';

// Reads the parts of a text that is known to be in canonical form. The functions rely on it and check nothing.

/** Returns the end of the value that begins at `start`. */
export function endOfPart(bytes: Buffer, start: number): number {
  const first = bytes[start];
  if (first === BYTE.quote) return endOfQuoted(bytes, start);
  let position = start;
  if (first !== BYTE.openBrace && first !== BYTE.openBracket) {
    while (position < bytes.length && !endsScalar(bytes[position] as number)) position += 1;
    return position;
  }
  let level = 0;
  for (;;) {
    const byte = bytes[position];
    if (byte === BYTE.quote) {
      position = endOfQuoted(bytes, position);
      continue;
    }
    position += 1;
    if (byte === BYTE.openBrace || byte === BYTE.openBracket) level += 1;
    else if (byte === BYTE.closeBrace || byte === BYTE.closeBracket) level -= 1;
    if (level === 0) return position;
  }
}

function endsScalar(byte: number): boolean {
  return byte === BYTE.comma || byte === BYTE.closeBrace || byte === BYTE.closeBracket;
}

/** Bytes of a string that a loop passes faster than a call into the runtime. */
const SHORT_STRING_BYTES = 64;

function endOfQuoted(bytes: Buffer, start: number): number {
  let position = start + 1;
  for (let byte = bytes[position]; byte !== BYTE.quote; byte = bytes[position]) {
    if (position - start === SHORT_STRING_BYTES) {
      const quote = bytes.indexOf(BYTE.quote, position);
      // A quote after a backslash may be a part of the string.
      if (bytes[quote - 1] !== BYTE.backslash) return quote + 1;
    }
    position += byte === BYTE.backslash ? 2 : 1;
  }
  return position + 1;
}

/** Moves over the members of an object. The fields are positions of the current member; the name is with quotes. */
export class MemberCursor {
  readonly bytes: Buffer;
  private readonly start: number;
  nameStart = 0;
  nameEnd = 0;
  valueStart = 0;
  valueEnd = 0;
  private position: number;

  /** `start` is where the name of the first member begins; -1 stands for an object without members. */
  constructor(bytes: Buffer, start: number) {
    this.bytes = bytes;
    this.start = start;
    this.position = start;
  }

  /** Moves to the next member. Returns false after the last. */
  next(): boolean {
    const { bytes, position } = this;
    if (position < 0 || bytes[position] !== BYTE.quote) return false;
    this.nameStart = position;
    this.nameEnd = endOfQuoted(bytes, position);
    this.valueStart = this.nameEnd + 2;
    this.valueEnd = endOfPart(bytes, this.valueStart);
    this.position = bytes[this.valueEnd] === BYTE.comma ? this.valueEnd + 2 : -1;
    return true;
  }

  /** The end of the object, once `next` has returned false. */
  get end(): number {
    return Math.max(this.valueEnd, this.start) + 1;
  }

  /** Whether the current name has no escapes. */
  get isPlain(): boolean {
    const { bytes, nameStart, nameEnd } = this;
    for (let index = nameStart; index < nameEnd; index += 1) if (bytes[index] === BYTE.backslash) return false;
    return true;
  }

  /** Returns whether the current member has this name, which is plain ASCII. */
  isNamed(name: string): boolean {
    const { bytes, nameStart, nameEnd } = this;
    if (nameEnd - nameStart !== name.length + 2) return false;
    for (let index = 0; index < name.length; index += 1) {
      if (bytes[nameStart + 1 + index] !== name.charCodeAt(index)) return false;
    }
    return true;
  }

  /** Returns whether the current value is this string, which has no escapes in JSON. False if it is not ASCII. */
  isString(text: string): boolean {
    const { bytes, valueStart, valueEnd } = this;
    if (valueEnd - valueStart !== text.length + 2 || bytes[valueStart] !== BYTE.quote) return false;
    for (let index = 0; index < text.length; index += 1) {
      const byte = bytes[valueStart + 1 + index] as number;
      if (byte !== text.charCodeAt(index) || ENDS_PLAIN_RUN[byte] === 1) return false;
    }
    return true;
  }

  /** Returns the current value if it is a string. */
  readString(): string | undefined {
    const { bytes, valueStart, valueEnd } = this;
    if (bytes[valueStart] !== BYTE.quote) return undefined;
    let end = valueStart + 1;
    while (ENDS_PLAIN_RUN[bytes[end] as number] === 0) end += 1;
    if (end === valueEnd - 1) return bytes.toString('latin1', valueStart + 1, end);
    return String(JSON.parse(bytes.toString('utf8', valueStart, valueEnd)));
  }

  /** Returns the current value as `JSON.parse` does. A string that equals `likely` is returned without a new one. */
  readValue(likely?: unknown): unknown {
    if (typeof likely === 'string' && this.isString(likely)) return likely;
    const { bytes, valueStart, valueEnd } = this;
    return (
      this.readString() ??
      wholeNumberOf(bytes, valueStart, valueEnd) ??
      JSON.parse(bytes.toString('utf8', valueStart, valueEnd))
    );
  }
}

/** Digits of a whole number that is exact in any case. */
const MAX_EXACT_DIGITS = 15;

/** Returns the value of a number if it consists of a few digits only. */
function wholeNumberOf(bytes: Buffer, start: number, end: number): number | undefined {
  if (end - start > MAX_EXACT_DIGITS) return undefined;
  let value = 0;
  for (let index = start; index < end; index += 1) {
    const digit = (bytes[index] as number) - BYTE.zero;
    if (digit < 0 || digit > 9) return undefined;
    value = value * 10 + digit;
  }
  return value;
}
