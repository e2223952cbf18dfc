import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  exactNormalNumber,
  isPlainlyNormal,
  numberFault,
  plainNumber,
  plainNumberLength,
} from '../../src/json/exact-number.ts';
import { anyNumber, hardNumbers } from '../setup/values/json-samples.ts';

describe('exactNormalNumber', () => {
  test.each([
    '0',
    '-0',
    '0.0',
    '-0.00e5',
    '0e999999999999999999999',
    '1',
    '1.0',
    '1.500',
    '0.1',
    '1e21',
    '1E+21',
    '100000000000000000000',
    '12e-1',
    '5e-324',
    '1.7976931348623157e308',
    '17976931348623157e292',
    '9007199254740992',
    '1000e-3',
    '0.001e3',
    '1e22',
    '0.30000000000000004',
    `1.${'0'.repeat(5000)}`,
    `1${'0'.repeat(300)}`,
    `1${'0'.repeat(5000)}e-5000`,
    `0.${'0'.repeat(5000)}1e5001`,
  ])('accepts %.40s', (text) => {
    expect(exactNormalNumber(text)).toBe(JSON.stringify(JSON.parse(text)));
  });

  test.each([
    '12345678901234567890',
    '9007199254740993',
    '1e400',
    '-1e400',
    '1e-400',
    '1e309',
    '2e-324',
    '1e999999999999999999999',
    '1e-999999999999999999999',
    '0.1000000000000000055511151231257827',
    '0.30000000000000003',
    '1.7976931348623158e308',
    '1.00000000000000000001',
    '9007199254740992.5',
    '0.12345678901234567890123',
    `1.${'0'.repeat(5000)}1`,
  ])('refuses %.40s', (text) => {
    expect(exactNormalNumber(text)).toBeUndefined();
  });

  test('accepts every double as JSON.stringify writes it', () => {
    fc.assert(fc.property(anyNumber, (value) => exactNormalNumber(JSON.stringify(value)) === JSON.stringify(value)));
  });

  test('refuses a double with one more digit', () => {
    const written = fc.double({ noNaN: true, noDefaultInfinity: true }).map(String);
    const long = written.filter(
      (text) => text.replace(/e.*/, '').replace(/\D/g, '').length >= 16 && text.includes('.'),
    );
    fc.assert(
      fc.property(
        long,
        fc.integer({ min: 1, max: 9 }),
        (text, digit) => exactNormalNumber(text.replace(/(?=e|$)/, `000${digit}`)) === undefined,
      ),
    );
  });

  // A quadratic algorithm would need hours.
  test('needs only linear time for four million digits', () => {
    const digits = 4_000_000;
    expect(exactNormalNumber(`0.${'7'.repeat(digits)}`)).toBeUndefined();
    expect(exactNormalNumber(`1${'0'.repeat(digits)}e-${digits}`)).toBe('1');
    expect(exactNormalNumber(`${'0'.repeat(digits)}1`)).toBe('1');
  });
});

describe('the forms of a number', () => {
  test.each([
    ['-0', '0', '0'],
    ['1.0', '1', '1'],
    ['1e21', '1e+21', '1000000000000000000000'],
    ['1e-7', '1e-7', '0.0000001'],
    ['-1.5e-7', '-1.5e-7', '-0.00000015'],
    ['1.5e+21', '1.5e+21', '1500000000000000000000'],
    ['123E-2', '1.23', '1.23'],
    ['-2.5e22', '-2.5e+22', '-25000000000000000000000'],
  ])('%s is %s for JSON.stringify and %s for PostgreSQL', (text, normal, plain) => {
    expect(exactNormalNumber(text)).toBe(normal);
    expect(plainNumber(text)).toBe(plain);
    expect(plainNumberLength(text)).toBe(plain.length);
  });

  test('the plain form has no exponent, the computed length and the same value', () => {
    fc.assert(
      fc.property(fc.oneof(anyNumber, fc.constantFrom(...hardNumbers)), (value) => {
        const plain = plainNumber(String(value));
        expect(plain).toMatch(/^-?(0|[1-9]\d*)(\.\d+)?$/);
        expect(Number(plain)).toBe(value);
        expect(plainNumberLength(String(value))).toBe(plain.length);
      }),
    );
  });
});

describe('the grammar of a number', () => {
  test.each([
    ['', 0],
    ['-', 1],
    ['+1', 0],
    ['01', 1],
    ['-01', 2],
    ['00', 1],
    ['.5', 0],
    ['1.', 2],
    ['1.e1', 2],
    ['1.2.3', 3],
    ['1e', 2],
    ['1e+', 3],
    ['1e1.5', 3],
    ['1-2', 1],
    ['--1', 1],
    ['1ee5', 2],
    ['1e5-', 3],
    ['-.5', 1],
  ])('%s has its first fault at %i', (text, index) => {
    expect(numberFault(text)).toBe(index);
  });

  test('is the grammar of JSON.parse', () => {
    const tokens = fc.string({ unit: fc.constantFrom(...'0019+-.eE'), minLength: 1, maxLength: 8 });
    const parses = (text: string): boolean => {
      try {
        JSON.parse(text);
        return true;
      } catch {
        return false;
      }
    };
    fc.assert(
      fc.property(tokens, (text) => (numberFault(text) === -1) === parses(text)),
      { numRuns: 5000 },
    );
  });

  test('the fast path accepts only numbers in normal and plain form', () => {
    const tokens = fc.oneof(
      fc.string({ unit: fc.constantFrom(...'00001259+-.e'), minLength: 1, maxLength: 18 }),
      fc.tuple(fc.integer(), fc.nat()).map(([whole, part]) => `${whole}.${part}`),
      fc.nat().map((digits) => `0.000000${digits}`),
      fc.nat().map((digits) => `0.00000${digits}`),
    );
    fc.assert(
      fc.property(tokens, (text) => {
        const isNormal = numberFault(text) === -1 && exactNormalNumber(text) === text && plainNumber(text) === text;
        return isNormal || !isPlainlyNormal(Buffer.from(text), 0, text.length);
      }),
      { numRuns: 10_000 },
    );
  });

  test('the fast path accepts ordinary numbers', () => {
    for (const text of ['0', '7', '-7', '42', '0.5', '-0.25', '123456789012345', '12.75', '0.000001', '100', '10.01']) {
      expect([text, isPlainlyNormal(Buffer.from(text), 0, text.length)]).toEqual([text, true]);
    }
  });
});
