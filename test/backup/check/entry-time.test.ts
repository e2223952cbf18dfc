import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createTimeReader } from '../../../src/backup/check/entry-time.ts';

/** All days from the year 1 to 9999. */
const anyTime = fc.record({
  ms: fc.integer({ min: -62_135_596_800_000, max: 253_402_300_799_999 }),
  rest: fc.nat(999),
});

test('times are read as microseconds since 1970', () => {
  const read = createTimeReader();
  fc.assert(
    fc.property(fc.array(anyTime), fc.nat(3), (times, offset) => {
      for (const { ms, rest } of times) {
        const text = `${new Date(ms).toISOString().slice(0, -1)}${String(rest).padStart(3, '0')}Z`;
        expect(BigInt(read(Buffer.from('x'.repeat(offset) + text), offset))).toBe(BigInt(ms) * 1000n + BigInt(rest));
      }
    }),
  );
});

test('a time in the same minute as the one before has its own seconds', () => {
  const read = createTimeReader();
  const texts = ['2026-01-31T23:59:59.999999Z', '2026-01-31T23:59:00.000001Z', '2026-02-01T00:00:00.000000Z'];
  expect(texts.map((text) => read(Buffer.from(text), 0))).toEqual([
    1_769_903_999_999_999, 1_769_903_940_000_001, 1_769_904_000_000_000,
  ]);
});
