import { describe, expect, test } from 'vitest';
import { canonicalize, canonicalText } from '../../src/json/canonical.ts';

describe('canonicalText', () => {
  test('writes small values as PostgreSQL does', () => {
    expect(canonicalText({ bb: 1, a: [true, null, 'x\n'], c: { d: 1e21 }, gone: undefined })).toBe(
      '{"a": [true, null, "x\\n"], "c": {"d": 1000000000000000000000}, "bb": 1}',
    );
    expect(canonicalText([])).toBe('[]');
    expect(canonicalText({})).toBe('{}');
    expect(canonicalText('é')).toBe('"é"');
  });

  test.each([[undefined], [Number.NaN], [[Number.POSITIVE_INFINITY]], [() => 1], [10n]])('refuses %s', (value) => {
    expect(() => canonicalText(value)).toThrow(TypeError);
  });

  test('refuses strings that PostgreSQL cannot store', () => {
    expect(() => canonicalText({ a: '\0' })).toThrow(expect.objectContaining({ code: 'invalid_string' }));
    expect(() => canonicalText({ a: '\ud800' })).toThrow(expect.objectContaining({ code: 'invalid_string' }));
  });
});

describe('canonicalize', () => {
  test.each([
    ['{"b":1,"a":2}', '{"a": 2, "b": 1}'],
    ['{"aa":1,"b":2,"":3}', '{"": 3, "b": 2, "aa": 1}'],
    ['{"é":1,"zz":2,"z":3,"漢":4}', '{"z": 3, "zz": 2, "é": 1, "漢": 4}'],
    ['{"a":1,"b":2,"a":3}', '{"a": 3, "b": 2}'],
    ['{"a":1,"\\u0061":{"x":1,"x":2}}', '{"a": {"x": 2}}'],
    ['{"\\n":1,"aa":2,"b":3}', '{"\\n": 1, "b": 3, "aa": 2}'],
    ['{"__proto__":{"__proto__":1},"toString":2}', '{"toString": 2, "__proto__": {"__proto__": 1}}'],
    ['[1.0,1e2,1E-7,-0,0.10]', '[1, 100, 0.0000001, 0, 0.1]'],
    ['[[],{},[[]],[{}]]', '[[], {}, [[]], [{}]]'],
    ['"\\/\\u0041\\u001F\\u007f\\b"', '"/A\\u001f\u007f\\b"'],
    [' null ', 'null'],
  ])('%s', (text, canonical) => {
    expect(canonicalize(text)).toBe(canonical);
    expect(canonicalize(Buffer.from(canonical))).toBe(canonical);
  });

  test('refuses a text that is not JSON or has more than 1,000 levels', () => {
    expect(() => canonicalize('{"a":1')).toThrow(expect.objectContaining({ code: 'invalid_json' }));
    expect(() => canonicalize('['.repeat(100_000))).toThrow(expect.objectContaining({ code: 'nested_too_deeply' }));
    expect(canonicalize('['.repeat(1000) + ']'.repeat(1000))).toHaveLength(2000);
  });
});
