import { deepStrictEqual } from 'node:assert';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { canonicalize, canonicalText } from '../../src/json/canonical.ts';
import { scanText } from '../../src/json/scan-text.ts';
import { rounds } from '../setup/depth.ts';
import { anyJson, spellOddly } from '../setup/values/json-samples.ts';
import { normalizeDocument } from '../setup/values/normalize-document.ts';

const options = { maxBytes: 1_000_000, maxDepth: 64 };

describe('normalizeDocument', () => {
  test('returns text, type and canonical size', () => {
    expect(normalizeDocument(' {"b": [1.0, "\\u0041"]}\n', options)).toEqual({
      text: '{"b":[1,"A"]}',
      canonicalBytes: 15,
      type: 'object',
    });
    expect(normalizeDocument(Buffer.from('1E2'), options)).toEqual({ text: '100', canonicalBytes: 3, type: 'number' });
  });

  test('returns the same text and value for any spelling', () => {
    fc.assert(
      fc.property(anyJson, fc.nat(), (value, seed) => {
        const { text, canonicalBytes } = normalizeDocument(spellOddly(value, seed), options);
        deepStrictEqual(JSON.parse(text), value);
        expect(text).toBe(normalizeDocument(JSON.stringify(value), options).text);
        expect(canonicalBytes).toBe(Buffer.byteLength(canonicalText(value)));
        expect(Buffer.byteLength(text)).toBeLessThanOrEqual(canonicalBytes);
        // biome-ignore lint/suspicious/noControlCharactersInRegex: it looks for what would break COPY
        expect(text).not.toMatch(/[\u0000-\u001f]/);
      }),
      { numRuns: rounds({ quick: 200, full: 1_000 }) },
    );
  });

  test('does not change a text in normal form', () => {
    fc.assert(
      fc.property(anyJson, (value) => {
        const { text } = normalizeDocument(JSON.stringify(value), options);
        expect(normalizeDocument(text, options).text).toBe(text);
        expect(normalizeDocument(canonicalize(text), options).canonicalBytes).toBe(
          Buffer.byteLength(canonicalize(text)),
        );
      }),
    );
  });

  test('adds the given place to errors', () => {
    expect(() => normalizeDocument('[1e999]', { ...options, place: { pointer: '/changes/0' } })).toThrow(
      expect.objectContaining({ code: 'invalid_number', place: { pointer: '/changes/0/0', offset: 1 } }),
    );
  });

  test('refuses a JavaScript string with a lone surrogate', () => {
    expect(() => normalizeDocument('"\ud800"', options)).toThrow(expect.objectContaining({ code: 'invalid_string' }));
  });

  test('scanText refuses an incomplete text', () => {
    expect(() => scanText('[', { kind: 'skip', maxDepth: 1 })).toThrow('ends early, at byte 1');
  });
});
