import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { CapturedValue, Visit } from '../../../src/json/visit.ts';
import { rounds } from '../../setup/depth.ts';
import { anyJson, capture, scan, spellOddly } from '../../setup/values/json-samples.ts';

const tricky: (string | Uint8Array)[] = [
  ' {"a\\u0062é":[1.50,-0,1e21,true,false,null,"\\ud83d\\ude00😀\\n\\/"] , "" : {"x":{ } } } ',
  '-12.25e+3',
  '"\\\\\\"漢字\\u6f22\\u0001"',
  '[[[[]]],{"a":{"a":{"a":0.1}}}]',
  '{"long name of a member":"a text that is longer than thirty-two bytes, so that it is copied in one go",\n\t"b":12345678901}',
  '[1e308,1e-7,5e-324,100000000000000000000,0.30000000000000004]',
  '{"a":1,"b":2,"\\u0061":3}',
  '{"é":1,"\\u00e9":2}',
  '["\\ud83d\\u0041"]',
  '["\\u0000"]',
  '[9007199254740993 ]',
  '[1.5.2]',
  '[01]',
  '{"a":[1,2}',
  '[truE]',
  '"control \n"',
  '[1,2] x',
  '{"a":"\\ud8',
  '[1, 2, 12',
  '',
  '[[[[[[[]]]]]]]',
  Uint8Array.of(0x5b, 0x22, 0xf0, 0x9f, 0x98, 0x22, 0x5d),
  Uint8Array.of(0x5b, 0x22, 0xed, 0xa0, 0x80, 0x22, 0x5d),
  Uint8Array.of(0x7b, 0x22, 0xc3, 0xa9, 0x22, 0x3a, 0x22, 0xe2, 0x82, 0xac, 0x22, 0x7d),
];
const cases = tricky
  .map((text) => Buffer.from(text))
  .map((bytes) => [bytes.toString('latin1').slice(0, 40), bytes] as const);

function cutAt(bytes: Buffer, cuts: number[]): Buffer[] {
  const edges = [0, ...cuts, bytes.length];
  return edges.slice(1).map((edge, index) => bytes.subarray(edges[index], edge));
}

const everyByte = (bytes: Buffer) => cutAt(bytes, [...bytes.keys()].slice(1));

function expectCutsToBeEqual(bytes: Buffer, run: (pieces: Buffer[]) => unknown): void {
  const whole = run([bytes]);
  expect(run(everyByte(bytes))).toEqual(whole);
  for (let cut = 0; cut <= bytes.length; cut += 1) expect(run(cutAt(bytes, [cut]))).toEqual(whole);
}

describe('the outcome does not depend on the chunks', () => {
  test.each(cases)('captured: %s', (_label, bytes) => {
    expectCutsToBeEqual(bytes, (pieces) => capture(pieces, { maxDepth: 6 }));
  });

  test.each(cases)('captured with any size limit: %s', (_label, bytes) => {
    for (let maxBytes = 0; maxBytes < 40; maxBytes += 1) {
      const whole = capture([bytes], { maxBytes, maxDepth: 6 });
      expect(capture(everyByte(bytes), { maxBytes, maxDepth: 6 })).toEqual(whole);
    }
  });

  test.each(cases)('skipped: %s', (_label, bytes) => {
    expectCutsToBeEqual(bytes, (pieces) => scan(pieces, () => ({ kind: 'skip', maxDepth: 6 })));
  });

  test.each(cases)('visited: %s', (_label, bytes) => {
    expectCutsToBeEqual(bytes, (pieces) => scan(pieces, (onValue) => visitLevels(onValue, 2)));
  });

  test('in any three pieces', () => {
    const bytes = Buffer.from(tricky[0] ?? '');
    const whole = capture([bytes]);
    for (let first = 0; first < bytes.length; first += 1) {
      for (let second = first; second < bytes.length; second += 1) {
        expect(capture(cutAt(bytes, [first, second]))).toEqual(whole);
      }
    }
  });

  test('for any value in any spelling, damaged at any byte', () => {
    const cuts = fc.array(fc.nat({ max: 400 }), { maxLength: 6 });
    const damage = fc.option(fc.tuple(fc.nat(), fc.nat({ max: 255 })));
    fc.assert(
      fc.property(
        anyJson,
        fc.nat(),
        cuts,
        damage,
        fc.integer({ min: 1, max: 200 }),
        (value, seed, places, hit, maxBytes) => {
          const bytes = Buffer.from(spellOddly(value, seed));
          if (hit !== null) bytes[hit[0] % bytes.length] = hit[1];
          const sorted = places.filter((place) => place < bytes.length).sort((one, other) => one - other);
          for (const limits of [{}, { maxBytes }])
            expect(capture(cutAt(bytes, sorted), limits)).toEqual(capture([bytes], limits));
          expect(scan(everyByte(bytes), (onValue) => visitLevels(onValue, 3))).toEqual(
            scan([bytes], (onValue) => visitLevels(onValue, 3)),
          );
        },
      ),
      { numRuns: rounds({ quick: 100, full: 500 }) },
    );
  });
});

/** Visits the containers of the first levels and captures the values below. */
function visitLevels(onValue: (value: CapturedValue) => void, levels: number): Visit {
  const captured: Visit = { kind: 'capture', maxBytes: 10_000, maxDepth: 64, onValue };
  if (levels === 0) return captured;
  const deeper = () => visitLevels(onValue, levels - 1);
  const array: Visit = { kind: 'array', onElement: deeper, onOther: () => captured };
  return { kind: 'object', uniqueNames: 'check', onMember: deeper, onOther: () => array };
}
