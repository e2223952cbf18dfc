import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { rounds } from '../../setup/depth.ts';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';
import { jsonText } from '../../setup/values/arbitrary.ts';
import { mergePatchExamples } from '../../setup/values/merge-patch.ts';

let nodes: TestNodes;
beforeAll(async () => {
  nodes = await openNodes();
});
afterAll(() => nodes.close());

async function merge(name: string, patch: string): Promise<unknown> {
  await nodes.node.commit({ action: 'document.patch', changes: [{ op: 'merge', name, json: patch }] });
  return JSON.parse((await nodes.node.store.readDocument(name))?.text ?? 'undefined');
}

describe('a merge patch', () => {
  it.each(mergePatchExamples)('of %s by %s gives %s', async (original, patch, result) => {
    const { rows } = await nodes.database.pool.query('select loom_merge_patch($1, $2)::text as merged', [
      original,
      patch,
    ]);
    expect(JSON.parse(rows[0].merged)).toEqual(JSON.parse(result));
    await nodes.node.commit({ changes: [{ op: 'put', name: 'example', json: original }] });
    expect(await merge('example', patch)).toEqual(JSON.parse(result));
  });

  it('of a document that does not exist creates it, without its nulls', async () => {
    expect(await merge('new', '{"a":null,"b":{"c":null,"d":[null]}}')).toEqual({ b: { d: [null] } });
  });

  it('distinguishes similar names, and accepts __proto__ and the empty name', async () => {
    await nodes.node.commit({ changes: [{ op: 'put', name: 'odd', json: '{"":1,"a":1,"A":1,"__proto__":{"x":1}}' }] });
    expect(await merge('odd', '{"":2,"a":null,"__proto__":{"y":2}}')).toEqual(
      JSON.parse('{"":2,"A":1,"__proto__":{"x":1,"y":2}}'),
    );
  });

  it('takes the name of a member for no place in an array', async () => {
    await nodes.node.commit({ changes: [{ op: 'put', name: 'array', json: '{"a":[{"b":1}]}' }] });
    expect(await merge('array', '{"a":{"0":{"c":{"d":2}}}}')).toEqual({ a: { 0: { c: { d: 2 } } } });
  });

  it('reaches the deepest level that a document may have, and keeps the members beside it', async () => {
    const nested = (leaf: string, beside: string) => `${`{${beside}"a":`.repeat(127)}{${leaf}}${'}'.repeat(127)}`;
    await nodes.node.commit({ changes: [{ op: 'put', name: 'deep', json: nested('"x":1,"y":1', '"b":1,') }] });
    expect(await merge('deep', nested('"x":null,"z":2', ''))).toEqual(JSON.parse(nested('"y":1,"z":2', '"b":1,')));
  });
});

/** Creates the function of the first schema beside the current one, to compare them. */
async function createFirstFunction(): Promise<void> {
  const text = await readFile(new URL('../../../migrations/0001_first_schema.sql', import.meta.url), 'utf8');
  const [definition] = /create function loom_merge_patch[^$]*\$\$[^$]*\$\$;/.exec(text) ?? [];
  await nodes.database.pool.query((definition ?? '').replaceAll('loom_merge_patch', 'first_merge_patch'));
}

describe('the function loom_merge_patch', () => {
  /** JSON texts with few names, so that target and patch share some. */
  const similar = fc.letrec<{ value: string }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 6, depthSize: 'medium' },
      fc.constantFrom('null', '1', '1.50', '"x"', '{}', '[]', '[{"a":null}]', 'true'),
      fc
        .uniqueArray(fc.tuple(fc.constantFrom('a', 'b', 'c', '', '0', '__proto__', '"\\\u0001'), tie('value')), {
          selector: ([name]) => name,
          maxLength: 5,
        })
        .map((members) => `{${members.map(([name, value]) => `${JSON.stringify(name)}:${value}`).join()}}`),
    ),
  })).value;

  it('gives the results of the function of the first schema, byte for byte', async () => {
    await createFirstFunction();
    const pair = fc.oneof(fc.tuple(similar, similar), fc.tuple(jsonText, jsonText));
    await fc.assert(
      fc.asyncProperty(fc.array(pair, { minLength: 50, maxLength: 100 }), async (pairs) => {
        const { rows } = await nodes.database.pool.query(
          `select target, patch, loom_merge_patch(target, patch)::text as result, first_merge_patch(target, patch)::text as expected
             from unnest($1::jsonb[], $2::jsonb[]) as pair (target, patch)
            where loom_merge_patch(target, patch)::text is distinct from first_merge_patch(target, patch)::text`,
          [pairs.map(([target]) => target), pairs.map(([, patch]) => patch)],
        );
        expect(rows).toEqual([]);
      }),
      { numRuns: rounds({ quick: 10, full: 200 }) },
    );
  });

  /** Returns the shortest of three times, in milliseconds. */
  async function mergeMs(target: string, patch: string): Promise<number> {
    const timesMs: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      const { rows } = await nodes.database.pool.query(
        `with given as materialized (select $1::jsonb as target, $2::jsonb as patch),
              started as materialized (select clock_timestamp() as at, target, patch from given),
              merged as materialized (select at, pg_column_size(loom_merge_patch(target, patch)) as size from started)
         select 1000 * extract(epoch from clock_timestamp() - at)::float8 as ms from merged where size > 0`,
        [target, patch],
      );
      timesMs.push(rows[0].ms);
    }
    return Math.min(...timesMs);
  }

  const object = (count: number, value: (n: number) => string): string =>
    `{${Array.from({ length: count }, (_, n) => `"key${n}":${value(n)}`).join()}}`;
  const nested = (depth: number, inner: string): string => `${'{"a":'.repeat(depth)}${inner}${'}'.repeat(depth)}`;

  it.each<[string, (count: number) => [target: string, patch: string]]>([
    ['members', (count) => [object(count, String), object(count, () => '0')]],
    ['nulls', (count) => [object(count, String), object(count, () => 'null')]],
    ['objects', (count) => [object(count, (n) => `{"a":${n}}`), object(count, (n) => `{"b":${n}}`)]],
    [
      'members at depth 100',
      (count) => [
        nested(100, object(count, String)),
        nested(
          100,
          object(count, () => '0'),
        ),
      ],
    ],
  ])('takes time in proportion to the number of %s', { timeout: 60_000 }, async (_what, valuesOf) => {
    const few = await mergeMs(...valuesOf(4_000));
    const many = await mergeMs(...valuesOf(32_000));
    // Linear time is 8 times as long, quadratic time 64 times.
    expect(many / few).toBeLessThan(32);
  });

  it('takes hardly longer if the same bytes are nested more deeply', { timeout: 60_000 }, async () => {
    const atDepth = (depth: number): [string, string] => [
      nested(depth, object(50_000, String)),
      nested(depth, '{"x":1}'),
    ];
    const flat = await mergeMs(...atDepth(1));
    const deep = await mergeMs(...atDepth(126));
    expect(deep / flat).toBeLessThan(6);
  });

  it('ends at its deadline', async () => {
    const { rows } = await nodes.database.pool.query(`select loom_merge('{}', '{"a":1}', clock_timestamp()) as merged`);
    expect(rows).toEqual([{ merged: null }]);
  });
});
