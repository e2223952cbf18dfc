import { expect, test } from 'vitest';
import { readDepth, rounds, sampleByKind, seededRandom } from './depth.ts';

const members = Array.from({ length: 60 }, (_, index) => index);
const kindOf = (member: number): string => `kind ${member % 6}`;

test('a sample has every kind, each member once, and every member at full depth', () => {
  const sample = sampleByKind(members, kindOf, { purpose: 'a', perKind: 2 });
  expect(new Set(sample).size).toBe(sample.length);
  expect(new Set(sample.map(kindOf)).size).toBe(6);
  expect(sample.length).toBe(rounds({ quick: 12, full: 60 }));
});

test('a sample has all members of a kind that has fewer than `perKind`', () => {
  expect(sampleByKind([1, 2], () => 'kind', { purpose: 'a', perKind: 5 }).toSorted()).toEqual([1, 2]);
});

test('samples for different purposes differ, and those for the same purpose are equal', () => {
  const draw = (purpose: string): number[] => sampleByKind(members, kindOf, { purpose });
  expect(draw('a')).toEqual(draw('a'));
  const different = new Set(Array.from({ length: 20 }, (_, index) => draw(`purpose ${index}`).join()));
  expect(different.size > 1).toBe(rounds({ quick: 1, full: 0 }) === 1);
});

test('random numbers depend on the purpose', () => {
  expect(seededRandom('a').fraction()).toBe(seededRandom('a').fraction());
  expect(seededRandom('a').fraction()).not.toBe(seededRandom('b').fraction());
});

test('the depth is quick by default, and a misspelled one is an error', () => {
  expect([readDepth(undefined), readDepth('quick'), readDepth('full')]).toEqual(['quick', 'quick', 'full']);
  expect(() => readDepth('Full')).toThrow('LOOM_TEST_DEPTH is "Full"');
});
