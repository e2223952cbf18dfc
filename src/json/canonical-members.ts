import { BYTE, ENDS_PLAIN_RUN } from './bytes.ts';

// Reads the parts of a text that is known to be valid: in canonical form, or captured (`CapturedValue.text`), which has
// no spaces between tokens. The functions rely on it and check nothing.

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

/** Bytes of a plain run that a loop passes faster than a call into the runtime. */
const SHORT_RUN_BYTES = 64;

function endOfQuoted(bytes: Buffer, start: number): number {
  let position = start + 1;
  for (;;) {
    const limit = position + SHORT_RUN_BYTES;
    while (position < limit && ENDS_PLAIN_RUN[bytes[position] as number] === 0) position += 1;
    const byte = bytes[position];
    if (byte === QUOTE) return position + 1;
    if (byte === BACKSLASH) {
      position += 2;
    } else if (position < limit) {
      position += 1;
    } else {
      const quote = bytes.indexOf(QUOTE, position);
      // A quote after a backslash may be a part of the string.
      if (bytes[quote - 1] !== BACKSLASH) return quote + 1;
    }
  }
}

const { quote: QUOTE, backslash: BACKSLASH } = BYTE;

const EMPTY: Buffer = Buffer.alloc(0);

/** Moves over the members of an object. The fields are positions of the current member; the name is with quotes. */
export class MemberCursor {
  bytes = EMPTY;
  nameStart = 0;
  nameEnd = 0;
  valueStart = 0;
  valueEnd = 0;
  private start = -1;
  private position = -1;

  /** Begins an object, as `enter` does. */
  constructor(bytes: Buffer, start: number) {
    this.enter(bytes, start);
  }

  /** Begins another object. `start` is where the name of its first member begins; -1 if it has no members. */
  enter(bytes: Buffer, start: number): void {
    this.bytes = bytes;
    this.start = start;
    this.position = start;
    this.valueEnd = 0;
  }

  /** Moves to the next member. Returns false after the last. */
  next(): boolean {
    const { bytes, position } = this;
    if (position < 0 || bytes[position] !== BYTE.quote) return false;
    this.nameStart = position;
    this.nameEnd = endOfQuoted(bytes, position);
    this.valueStart = afterSeparator(bytes, this.nameEnd);
    this.valueEnd = endOfPart(bytes, this.valueStart);
    this.position = bytes[this.valueEnd] === BYTE.comma ? afterSeparator(bytes, this.valueEnd) : -1;
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
    return readString(this.bytes, this.valueStart, this.valueEnd);
  }

  /** Returns the current value as `JSON.parse` does. */
  readValue(): unknown {
    return readValue(this.bytes, this.valueStart, this.valueEnd);
  }
}

/** Returns the position after a separator and the space that it has in canonical form. */
export function afterSeparator(bytes: Buffer, separator: number): number {
  return bytes[separator + 1] === BYTE.space ? separator + 2 : separator + 1;
}

/** Returns whether the bytes are plain: ASCII without quotes, backslashes and control characters. */
export function isPlain(bytes: Buffer, start: number, end: number): boolean {
  let position = start;
  while (position < end && ENDS_PLAIN_RUN[bytes[position] as number] === 0) position += 1;
  return position === end;
}

/** Returns the value between two positions if it is a string. */
export function readString(bytes: Buffer, start: number, end: number): string | undefined {
  if (bytes[start] !== BYTE.quote) return undefined;
  if (isPlain(bytes, start + 1, end - 1)) return bytes.toString('latin1', start + 1, end - 1);
  return String(JSON.parse(bytes.toString('utf8', start, end)));
}

/** Returns the value between two positions as `JSON.parse` does. */
export function readValue(bytes: Buffer, start: number, end: number): unknown {
  return (
    readString(bytes, start, end) ?? wholeNumberOf(bytes, start, end) ?? JSON.parse(bytes.toString('utf8', start, end))
  );
}

/** Digits of a whole number that is exact in any case. */
const MAX_EXACT_DIGITS = 15;

/** Returns the value of a number if it consists of a few digits only. */
export function wholeNumberOf(bytes: Buffer, start: number, end: number): number | undefined {
  if (end - start > MAX_EXACT_DIGITS) return undefined;
  let value = 0;
  for (let index = start; index < end; index += 1) {
    const digit = (bytes[index] as number) - BYTE.zero;
    if (digit < 0 || digit > 9) return undefined;
    value = value * 10 + digit;
  }
  return value;
}
