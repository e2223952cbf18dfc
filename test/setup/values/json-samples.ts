import fc from 'fast-check';
import { isLoomError } from '../../../src/errors.ts';
import { JsonTruncatedError } from '../../../src/json/scanner/fault.ts';
import { createJsonScanner } from '../../../src/json/scanner/scanner.ts';
import type { CapturedValue, Visit } from '../../../src/json/visit.ts';
import { anyCharacter } from './arbitrary.ts';

/** Numbers at the limits of a double. */
export const hardNumbers = [
  0,
  5e-324,
  2.2250738585072014e-308,
  2.225073858507201e-308,
  1.7976931348623157e308,
  -1.7976931348623157e308,
  Number.EPSILON,
  Number.MAX_SAFE_INTEGER,
  Number.MIN_SAFE_INTEGER,
  9007199254740992,
  1e15,
  1e16,
  123456789012345680000,
  1e20,
  1e21,
  1.5e21,
  1.2345e-7,
  1e-6,
  1e-7,
  0.000001234,
  0.1,
  0.1 + 0.2,
  1 / 3,
  -1.5,
  1e23,
  4.35,
];

const hardStrings = [
  '',
  '"\\/\b\f\n\r\t',
  '\u0001\u001f\u007f\u0080\u009f',
  '\u2028\u2029\ufeff\ufffd\uffff',
  '😀👩‍👩‍👧‍👦🇨🇭',
  'a\\u0041',
  'é',
  'e\u0301',
  '漢字',
  '{"a": 1, "b": [1, 2]}',
];

const hardNames = [
  '',
  '__proto__',
  'constructor',
  'toString',
  'a',
  'b',
  'aa',
  'ab',
  'Z',
  'é',
  'z',
  'ÿ',
  '漢',
  '😀',
  'a"b',
  'a\\b',
  'a/b~',
  '0',
  '10',
  '9',
];

const text = fc.string({ unit: anyCharacter, maxLength: 12 }).map((value) => value.replaceAll('\0', ''));
const anyString = fc.oneof(fc.constantFrom(...hardStrings), text, fc.string({ unit: 'grapheme', maxLength: 12 }));
const anyName = fc.oneof(fc.constantFrom(...hardNames), anyString);
/** Replaces -0, which LOOM does not keep, by 0. */
export const anyNumber = fc
  .oneof(
    fc.constantFrom(...hardNumbers),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.integer(),
    fc.maxSafeInteger(),
    fc.tuple(fc.maxSafeInteger(), fc.integer({ min: 0, max: 20 })).map(([digits, places]) => digits / 10 ** places),
  )
  .map((value) => (Object.is(value, -0) ? 0 : value));

/** Any JSON value that LOOM stores. Every name is an own property of its object, even `__proto__`. */
export const anyJson: fc.Arbitrary<unknown> = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constantFrom(null, true, false),
    anyNumber,
    anyString,
    tie('array'),
    tie('object'),
  ),
  array: fc.array(tie('value'), { maxLength: 6 }),
  object: fc
    .uniqueArray(fc.tuple(anyName, tie('value')), { maxLength: 8, selector: ([name]) => name })
    .map((entries) => Object.fromEntries(entries)),
})).value;

/** Writes the value as JSON text. The seed selects its whitespace, escapes and forms of numbers. */
export function spellOddly(value: unknown, seed: number): string {
  let state = seed >>> 0;
  const pick = (choices: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * choices);
  };
  const space = () => ['', '', ' ', '\n', '\t\r', '  \n '][pick(6)] ?? '';
  const hex = (unit: number) => `\\u${unit.toString(16).padStart(4, '0')}`;
  const string = (plain: string) =>
    `"${[...plain]
      .map((character) => {
        if (pick(5) === 0)
          return character
            .split('')
            .map((unit) =>
              pick(2) ? hex(unit.charCodeAt(0)) : hex(unit.charCodeAt(0)).toUpperCase().replace('U', 'u'),
            )
            .join('');
        return character === '/' && pick(2) ? '\\/' : JSON.stringify(character).slice(1, -1);
      })
      .join('')}"`;
  const number = (plain: number) => {
    const normal = String(plain);
    if (normal.includes('e'))
      return pick(2) ? normal.replace('e+', 'E') : normal.replace('e', 'e').replace('e+', 'e+00');
    return (
      [normal, normal.includes('.') ? `${normal}00` : `${normal}.0`, `${normal}e0`, `${normal}E-00`][pick(4)] ?? normal
    );
  };
  const spell = (part: unknown): string => {
    if (typeof part === 'string') return string(part);
    if (typeof part === 'number') return number(part);
    if (Array.isArray(part)) return `[${space()}${part.map(wrapped).join(',')}]`;
    if (part === null || typeof part !== 'object') return String(part);
    const members = Object.entries(part).map(
      ([name, member]) => `${space()}${string(name)}${space()}:${wrapped(member)}`,
    );
    return `{${space()}${members.join(',')}}`;
  };
  const wrapped = (part: unknown): string => space() + spell(part) + space();
  return wrapped(value);
}

export interface Outcome {
  values?: { text: string; type: string; canonicalBytes: number; offset: number }[];
  error?: {
    code: string;
    pointer: string | undefined;
    offset: number | undefined;
    truncated: boolean;
    message: string;
  };
}

/** Scans a text that arrives in these pieces, and captures its value. */
export function capture(pieces: Uint8Array[], limits: { maxBytes?: number; maxDepth?: number } = {}): Outcome {
  return scan(pieces, (onValue) => ({ kind: 'capture', maxBytes: 10_000_000, maxDepth: 64, ...limits, onValue }));
}

export function scan(pieces: Uint8Array[], visit: (onValue: (value: CapturedValue) => void) => Visit): Outcome {
  const values: CapturedValue[] = [];
  try {
    const scanner = createJsonScanner(visit((value) => values.push(value)));
    for (const piece of pieces) scanner.write(piece);
    scanner.end();
    return { values: values.map((value) => ({ ...value, text: value.text.toString('utf8') })) };
  } catch (error) {
    if (!isLoomError(error)) throw error;
    const { code, message, place } = error;
    const truncated = error instanceof JsonTruncatedError;
    return { error: { code, message, truncated, pointer: place.pointer, offset: place.offset } };
  }
}

export function captureText(json: string, limits: { maxBytes?: number; maxDepth?: number } = {}): Outcome {
  return capture([Buffer.from(json)], limits);
}
