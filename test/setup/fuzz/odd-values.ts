import type { Random } from '../values/random.ts';

/** Returns whether an event of this probability happens. */
export function chance(random: Random, probability: number): boolean {
  return random.fraction() < probability;
}

/** Texts that some layer could misread. They include names at the bounds of their length. */
export const oddTexts: readonly string[] = [
  '',
  '.',
  '..',
  '...',
  'a/b',
  '%2F',
  '%',
  '\u0000',
  '\u0001',
  '\u001f\u007f',
  '\u0085',
  '\u2028',
  '\ufeff',
  '\ufffd',
  '\ud800',
  '\udfff\ud83d',
  '😀',
  '\u{10ffff}',
  'e\u0301',
  '\u202eabc',
  '\u200d',
  'a'.repeat(512),
  'a'.repeat(513),
  `${'漢'.repeat(170)}ab`,
  '漢'.repeat(171),
  '__proto__',
  'constructor',
  'hasOwnProperty',
  'null',
  'true',
  '0',
  '-1',
  '\\',
  '"',
  "'",
  "';drop table loom_audit;--",
  '$1',
  '\t',
  ' a',
  'a ',
  'a\nb',
  'İ',
  'K',
  'history',
  'trial',
];

/** Texts of numbers: not exact, at bounds, in odd spellings, and not valid in JSON. */
export const oddNumbers: readonly string[] = [
  '0',
  '-0',
  '1.0',
  '1e2',
  '9007199254740991',
  '9007199254740992',
  '9007199254740993',
  '-9007199254740993',
  '4503599627370496',
  '4503599627370497',
  '9223372036854775807',
  '9223372036854775808',
  '12345678901234567890',
  '1e400',
  '-1e400',
  '1e-400',
  '0.10',
  '0.1000000000000000055511151231257827',
  '1e21',
  '1E+21',
  '5e-324',
  '2.5e-324',
  '1.7976931348623157e308',
  '1.7976931348623159e308',
  '01',
  '+1',
  '.5',
  '1.',
  '-',
  '1e',
  '0x10',
  'NaN',
  'Infinity',
  '1'.repeat(400),
  `0.${'0'.repeat(400)}1`,
  '1e99999999999999999999',
  '1e-99999999999999999999',
  `1${'0'.repeat(130)}`,
];

const oddTimes: readonly string[] = [
  '2026-11-25T22:57:28Z',
  '2026-11-25t22:57:28z',
  '2026-11-25T22:57:28.4516521234+01:00',
  '2026-02-29T00:00:00Z',
  '2024-02-29T23:59:60Z',
  '2026-11-25T24:00:00Z',
  '2026-11-25',
  '2026-11-25 22:57:28Z',
  '0000-01-01T00:00:00Z',
  '0001-01-01T00:00:00+23:59',
  '9999-12-31T23:59:59.999999Z',
  '9999-12-31T23:59:59-23:59',
  '10000-01-01T00:00:00Z',
  '2026-11-25T22:57:28+24:00',
  '2026-11-25T22:57:28',
  'infinity',
  'now',
];

const oddIntegers: readonly string[] = [
  '',
  '-1',
  '-0',
  '+1',
  ' 1',
  '1 ',
  '1.0',
  '1e3',
  '0x1',
  '٣',
  '0001',
  '9007199254740991',
  '9007199254740992',
  '9223372036854775808',
  '1'.repeat(16),
  '1'.repeat(17),
  '1'.repeat(500),
  'null',
  'NaN',
];

const oddBooleans: readonly string[] = ['true', 'false', '1', '0', 'TRUE', 'yes', '', '2', 'null', 'true '];

/** Returns the text of a parameter that is at or beyond the bounds of its schema, or of another type. */
export function oddParameter(
  random: Random,
  { type, format, minimum = 0, maximum = 1_000, enum: choices }: ParameterBounds,
): string {
  if (choices !== undefined) return random.pick([...choices.map((one) => String(one).toUpperCase()), ...oddTexts]);
  if (type === 'integer') {
    const bounds = [minimum - 1, minimum, minimum + 1, maximum - 1, maximum, maximum + 1].map(String);
    return random.pick([...bounds, ...bounds, ...oddIntegers]);
  }
  if (type === 'boolean') return random.pick(oddBooleans);
  if (format === 'date-time') return random.pick(oddTimes);
  return random.pick(oddTexts);
}

interface ParameterBounds {
  type?: string;
  format?: string;
  minimum?: number;
  maximum?: number;
  enum?: unknown[];
}

/** Percent-encodes all but plain characters, as UTF-8. Unlike `encodeURIComponent`, accepts a lone surrogate. */
export function percentEncode(text: string): string {
  return [...Buffer.from(text)]
    .map((byte) => {
      const character = String.fromCharCode(byte);
      return /[A-Za-z0-9_~-]/.test(character) ? character : `%${byte.toString(16).padStart(2, '0').toUpperCase()}`;
    })
    .join('');
}

/** Returns the bytes of the text as UTF-8, one character a byte, as a request line or header has them. */
export function toBytesText(text: string): string {
  return Buffer.from(text).toString('latin1');
}

export function randomBytes(random: Random, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => random.integer(0, 255)));
}

export function randomWord(random: Random, length = random.integer(1, 12)): string {
  return Array.from({ length }, () => random.pick([...'abcdefghijklmnopqrstuvwxyz0123456789'])).join('');
}
