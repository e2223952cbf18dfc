import { BYTE } from './bytes.ts';

// Clients pass numbers through `JSON.parse` and `JSON.stringify`, and PostgreSQL stores them as `numeric`. A number is
// exact when its text has the same decimal value as the shortest text of its double. Then both preserve it. Each
// function here takes the text of a JSON number (RFC 8259 §6), except `numberFault`, and runs in linear time.

/**
 * Returns the normal form of an exact number, which is `JSON.stringify(JSON.parse(text))`: `1.0` → `1`, `-0` → `0`,
 * `1e21` → `1e+21`. Returns undefined for a number that is not exact.
 */
export function exactNormalNumber(text: string): string | undefined {
  const value = Number(text);
  if (!Number.isFinite(value)) return undefined;
  const normal = String(value);
  if (normal === text) return normal;
  const given = decimalOf(text);
  const kept = decimalOf(normal);
  const isSame = given.digits === kept.digits && given.exponent === kept.exponent && given.negative === kept.negative;
  return isSame ? normal : undefined;
}

/** Returns PostgreSQL's `jsonb` text of the normal form: `1e+21` → `1000000000000000000000`, `1e-7` → `0.0000001`. */
export function plainNumber(text: string): string {
  const normal = String(Number(text));
  if (!normal.includes('e')) return normal;
  const { negative, digits, exponent } = decimalOf(normal);
  const sign = negative ? '-' : '';
  if (exponent >= 0) return sign + digits + '0'.repeat(exponent);
  const whole = digits.length + exponent;
  if (whole > 0) return `${sign}${digits.slice(0, whole)}.${digits.slice(whole)}`;
  return `${sign}0.${'0'.repeat(-whole)}${digits}`;
}

/** Returns the length of `plainNumber(text)` without building it. */
export function plainNumberLength(text: string): number {
  const normal = String(Number(text));
  if (!normal.includes('e')) return normal.length;
  const { negative, digits, exponent } = decimalOf(normal);
  const sign = negative ? 1 : 0;
  if (exponent >= 0) return sign + digits.length + exponent;
  return sign + Math.max(digits.length, -exponent) + (digits.length + exponent > 0 ? 1 : 2);
}

/** Returns the index of the first fault in a number's grammar (the length if it ends early); -1 if it is valid. */
export function numberFault(text: string): number {
  let index = text.charCodeAt(0) === BYTE.minus ? 1 : 0;
  const whole = digitsEnd(text, index);
  if (whole === index) return index;
  if (text.charCodeAt(index) === BYTE.zero && whole > index + 1) return index + 1;
  index = whole;
  if (text.charCodeAt(index) === BYTE.point) {
    const fraction = digitsEnd(text, index + 1);
    if (fraction === index + 1) return fraction;
    index = fraction;
  }
  if (text[index] === 'e' || text[index] === 'E') {
    const sign = text[index + 1];
    const first = sign === '+' || sign === '-' ? index + 2 : index + 1;
    index = digitsEnd(text, first);
    if (index === first) return first;
  }
  return index === text.length ? -1 : index;
}

/**
 * Returns true if a run of number bytes is certainly an exact JSON number in normal form without exponent: at most 15
 * digits and no redundant zero. False means "unknown". This saves most numbers the conversion to a string.
 */
export function isPlainlyNormal(bytes: Uint8Array, start: number, end: number): boolean {
  const first = bytes[start] === BYTE.minus ? start + 1 : start;
  if (end - first > 16 || end === first) return false;
  let point = -1;
  for (let index = first; index < end; index += 1) {
    const byte = bytes[index] as number;
    if (byte >= BYTE.zero && byte <= BYTE.nine) continue;
    if (byte !== BYTE.point || point >= 0) return false;
    point = index;
  }
  if (point < 0) return end - first <= 15 && (bytes[first] !== BYTE.zero || (end === first + 1 && first === start));
  if (point === first || bytes[end - 1] === BYTE.zero || bytes[end - 1] === BYTE.point) return false;
  if (bytes[first] !== BYTE.zero) return true;
  // Below 0.000001 the normal form has an exponent, so one of the first six decimals must be nonzero.
  if (point !== first + 1) return false;
  for (let index = point + 1; index < end && index <= point + 6; index += 1)
    if (bytes[index] !== BYTE.zero) return true;
  return false;
}

interface Decimal {
  negative: boolean;
  /** Significant digits without zeros at either end. Zero has no digits, exponent 0 and no sign. */
  digits: string;
  /** Power of ten of the last digit. */
  exponent: number;
}

function decimalOf(text: string): Decimal {
  const negative = text.charCodeAt(0) === BYTE.minus;
  const mark = text.search(/[eE]/);
  const mantissa = text.slice(negative ? 1 : 0, mark < 0 ? undefined : mark);
  const point = mantissa.indexOf('.');
  const all = point < 0 ? mantissa : mantissa.slice(0, point) + mantissa.slice(point + 1);
  let start = 0;
  while (start < all.length && all.charCodeAt(start) === BYTE.zero) start += 1;
  if (start === all.length) return { negative: false, digits: '', exponent: 0 };
  let end = all.length;
  while (all.charCodeAt(end - 1) === BYTE.zero) end -= 1;
  const decimals = point < 0 ? 0 : mantissa.length - point - 1;
  // An exponent beyond 2^53 is rounded. No text has enough digits to bring such a value into the range of a double.
  const exponent = (mark < 0 ? 0 : Number(text.slice(mark + 1))) - decimals + (all.length - end);
  return { negative, digits: all.slice(start, end), exponent };
}

function digitsEnd(text: string, from: number): number {
  let index = from;
  while (index < text.length && text.charCodeAt(index) >= BYTE.zero && text.charCodeAt(index) <= BYTE.nine) index += 1;
  return index;
}
