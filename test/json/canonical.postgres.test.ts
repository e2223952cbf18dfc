import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { canonicalize, canonicalText } from '../../src/json/canonical.ts';
import { createEmptyDatabase, type TestDatabase } from '../setup/server/database.ts';
import { anyJson, hardNumbers, spellOddly } from '../setup/values/json-samples.ts';
import { normalizeDocument } from '../setup/values/normalize-document.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await createEmptyDatabase();
});
afterAll(async () => {
  await database.drop();
});

const options = { maxBytes: 10_000_000, maxDepth: 128 };

/** Returns PostgreSQL's canonical text of each text, and its length in bytes. */
async function askPostgres(texts: string[]): Promise<{ text: string; bytes: number }[]> {
  const { rows } = await database.pool.query<{ text: string; bytes: number }>(
    `select value::jsonb::text as text, octet_length(value::jsonb::text) as bytes
       from unnest($1::text[]) with ordinality as given (value, position)
      order by position`,
    [texts],
  );
  return rows;
}

async function expectPostgresToAgree(texts: string[]): Promise<void> {
  const normal = texts.map((text) => normalizeDocument(text, options));
  const answers = await askPostgres(normal.map(({ text }) => text));
  expect(texts.map((text) => canonicalize(text))).toEqual(answers.map(({ text }) => text));
  expect(normal.map(({ canonicalBytes }) => canonicalBytes)).toEqual(answers.map(({ bytes }) => bytes));
}

test('the canonical text of any value is PostgreSQL’s, byte for byte', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(anyJson, fc.nat()), { minLength: 1, maxLength: 40 }), async (samples) => {
      await expectPostgresToAgree(samples.map(([value, seed]) => spellOddly(value, seed)));
      const values = samples.map(([value]) => value);
      expect(values.map(canonicalText)).toEqual(
        (await askPostgres(values.map((value) => JSON.stringify(value)))).map(({ text }) => text),
      );
    }),
    { numRuns: 60 },
  );
});

test('the canonical text of the hardest numbers and their negatives is PostgreSQL’s', async () => {
  const doubles = fc.sample(fc.double({ noNaN: true, noDefaultInfinity: true }), 1000);
  const powers = Array.from({ length: 632 }, (_, index) => Number(`1e${index - 323}`));
  const numbers = [...hardNumbers, ...doubles, ...powers].flatMap((value) => [value, -value]);
  await expectPostgresToAgree(numbers.map((value) => JSON.stringify(value)));
});

test('the canonical text of characters from all planes is PostgreSQL’s, in names and values', async () => {
  const points = [
    ...Array(0x900).keys(),
    ...Array.from({ length: 500 }, (_, index) => (index * 2213 + 0xe000) % 0x110000),
  ];
  const characters = points
    .filter((point) => point > 0 && (point < 0xd800 || point > 0xdfff))
    .map((point) => String.fromCodePoint(point));
  await expectPostgresToAgree([
    JSON.stringify(characters),
    JSON.stringify(Object.fromEntries(characters.map((character, index) => [character, index]))),
    ...characters.map(
      (character) =>
        `"${character
          .split('')
          .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
          .join('')}"`,
    ),
  ]);
});

test('the last of two duplicate members is kept, as PostgreSQL does', async () => {
  const texts = ['{"a":1,"a":2}', '{"b":1,"a":{"x":1,"x":[]},"b":{}}', '{"\\u0061":1,"a":2,"A":3}'];
  expect(texts.map(canonicalize)).toEqual((await askPostgres(texts)).map(({ text }) => text));
});
