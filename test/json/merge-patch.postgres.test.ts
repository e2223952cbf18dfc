import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { canonicalText } from '../../src/json/canonical.ts';
import { createMerger } from '../../src/json/merge-patch.ts';
import { rounds } from '../setup/depth.ts';
import { createTestDatabase, type TestDatabase } from '../setup/server/database.ts';
import { anyJson } from '../setup/values/json-samples.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(async () => {
  await database.drop();
});

/** Shares many names with other values, so that patches meet members, replace and remove them. */
const fewNames = fc.constantFrom('a', 'b', 'aa', 'é', '__proto__', 'q"', 'c\\', '\t', '漢');
const alike: fc.Arbitrary<unknown> = fc.letrec((tie) => ({
  value: fc.oneof({ depthSize: 'medium' }, fc.constantFrom(null, 1, 'x', 1e21, []), anyJson, tie('object')),
  object: fc
    .uniqueArray(fc.tuple(fewNames, tie('value')), { maxLength: 6, selector: ([name]) => name })
    .map((members) => Object.fromEntries(members)),
})).object;

test('a merge patch gives the text that PostgreSQL gives', async () => {
  const pair = fc.tuple(
    fc.oneof({ weight: 4, arbitrary: alike }, anyJson),
    fc.oneof({ weight: 4, arbitrary: alike }, anyJson),
  );
  const pairs = fc.sample(pair, rounds({ quick: 300, full: 5000 }));
  const texts = pairs.map(([base, patch]) => [canonicalText(base), canonicalText(patch)] as const);
  const { rows } = await database.pool.query<{ merged: string; created: string }>(
    `select loom_merge_patch(base::jsonb, patch::jsonb)::text as merged, loom_merge_patch(null, patch::jsonb)::text as created
       from unnest($1::text[], $2::text[]) with ordinality as given (base, patch, position) order by position`,
    [texts.map(([base]) => base), texts.map(([, patch]) => patch)],
  );
  const { merge } = createMerger();
  // Between other bytes, as a patch lies in its entry, and a value in a buffer that is overwritten.
  const ours = texts.map(([base, patch]) => {
    const text = Buffer.from(`[${patch}, {"z": 1}]`);
    const end = 1 + Buffer.byteLength(patch);
    return {
      merged: merge(
        { bytes: Buffer.from(`${base}, "z": 1}`), length: Buffer.byteLength(base) },
        text,
        1,
        end,
      ).toString(),
      created: merge(undefined, text, 1, end).toString(),
    };
  });
  expect(ours).toEqual(rows);
});
