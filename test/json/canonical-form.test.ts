import fc from 'fast-check';
import { expect, test } from 'vitest';
import { canonicalize, canonicalText } from '../../src/json/canonical.ts';
import { endOfCanonical } from '../../src/json/canonical-form.ts';
import { createJsonScanner } from '../../src/json/scanner/scanner.ts';
import type { CapturedValue, CaptureVisit } from '../../src/json/visit.ts';
import { anyJson, spellOddly } from '../setup/values/json-samples.ts';

const LEVELS = 64;

/** Captures the elements of an array, each as the visit says. */
function captureElements(chunks: Buffer[], visit: CaptureVisit) {
  const values: CapturedValue[] = [];
  const onValue = (value: CapturedValue): void => void values.push(value);
  const scanner = createJsonScanner({
    kind: 'array',
    onElement: () => ({ ...visit, onValue }),
    onOther: () => visit,
  });
  for (const chunk of chunks) scanner.write(chunk);
  scanner.end();
  return values;
}

const whole = {
  kind: 'capture',
  maxBytes: 1e6,
  maxDepth: LEVELS,
  canonical: 'whole',
  onValue: () => undefined,
} as const;

test('the canonical text of a value is recognized, unless it has rare escapes or large numbers', () => {
  fc.assert(
    fc.property(anyJson, (value) => {
      const text = Buffer.from(`${canonicalText(value)},`);
      const end = endOfCanonical(text, 0, LEVELS);
      const isRare = /\\|\d{15}|0\.000000/.test(text.toString());
      if (!isRare) expect(end).toBe(text.length - 1);
      else expect([text.length - 1, -1]).toContain(end);
    }),
  );
});

test('a text that is recognized is canonical, whatever its bytes', () => {
  const edit = fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }), fc.constantFrom('replace', 'insert', 'remove'));
  fc.assert(
    fc.property(anyJson, fc.nat(), fc.array(edit, { maxLength: 3 }), (value, seed, edits) => {
      let bytes = Buffer.from(seed % 4 === 0 ? spellOddly(value, seed) : `${canonicalText(value)} `);
      for (const [place, byte, kind] of edits) {
        const at = place % bytes.length;
        const rest = bytes.subarray(kind === 'insert' ? at : at + 1);
        bytes = Buffer.concat([bytes.subarray(0, at), ...(kind === 'remove' ? [] : [Buffer.from([byte])]), rest]);
        if (bytes.length === 0) return;
      }
      const end = endOfCanonical(bytes, 0, LEVELS);
      if (end < 0) return;
      const text = bytes.subarray(0, end);
      expect(Buffer.from(canonicalize(text)).equals(text)).toBe(true);
    }),
    { numRuns: 500 },
  );
});

test.each([
  '{"a":1}',
  '{"a": 1,"b": 2}',
  '{"b": 1, "a": 2}',
  '{"a": 1, "a": 2}',
  '{"aa": 1, "b": 2}',
  '[1,2]',
  '[1 , 2]',
  '[ 1]',
  '[1.0]',
  '[-0]',
  '[1e2]',
  '[01]',
  '["\\/"]',
  '["\\u0041"]',
  '["\u0001"]',
  '["a\nb"]',
  '[tru]',
  '[1, ]',
  '{"a": 1, }',
  '[[[]]]',
])('%j is not recognized', (text) => {
  expect(endOfCanonical(Buffer.from(`${text} `), 0, 2)).toBe(-1);
});

test.each(['c080', 'eda080', 'f4908080', 'e08080', 'f0808080', 'ff', 'c3', 'e282', '80'])(
  'the bytes %s in a string are not recognized',
  (hex) => {
    const text = Buffer.concat([Buffer.from('["'), Buffer.from(hex, 'hex'), Buffer.from('"]')]);
    expect(endOfCanonical(text, 0, 2)).toBe(-1);
  },
);

test('a value keeps its canonical form only where it is complete in a chunk', () => {
  const text = Buffer.from('[{"a": [1, 2]},{"a":1}, "x"]');
  expect(captureElements([text], whole).map((value) => [value.text.toString(), value.canonicalFrom])).toEqual([
    ['{"a": [1, 2]}', 0],
    ['{"a":1}', undefined],
    ['"x"', 0],
  ]);
  const cut = captureElements([text.subarray(0, 5), text.subarray(5)], whole);
  expect(cut[0]).toMatchObject({ text: Buffer.from('{"a":[1,2]}'), canonicalBytes: 13, offset: 1 });
});

test('an object may begin with one member that is not in canonical form', () => {
  const after = { ...whole, canonical: { after: 'hash' } } as const;
  const values = captureElements(
    [Buffer.from('[{"hash":"x","a": 1},{"hash":"x","a": 1, "hash2": 3},{"hash": "x","a": 1},{"hash":"x"}]')],
    after,
  );
  expect(values.map(({ canonicalFrom }) => canonicalFrom)).toEqual([12, 12, undefined, undefined]);
  expect(values[0]?.canonicalBytes).toBe('{"a": 1, "hash": "x"}'.length);
  const twice = (): unknown => captureElements([Buffer.from('[{"hash":"x","a": 1, "hash": 2}]')], after);
  expect(twice).toThrow(expect.objectContaining({ code: 'duplicate_member' }));
});

test('a value in canonical form that is too large or too deep is refused as any other', () => {
  const small = { ...whole, maxBytes: 10, maxDepth: 2 } as const;
  expect(() => captureElements([Buffer.from('["123456789"]')], small)).toThrow(
    expect.objectContaining({ code: 'document_too_large' }),
  );
  expect(() => captureElements([Buffer.from('[[[[]]]]')], small)).toThrow(
    expect.objectContaining({ code: 'nested_too_deeply' }),
  );
});
