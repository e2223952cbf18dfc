import { afterAll, beforeAll, expect, it } from 'vitest';
import type { RowBlock } from '../../../src/persistence/connection/copy.ts';
import { createEmptyDatabase, type TestDatabase } from '../../setup/server/database.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await createEmptyDatabase();
});
afterAll(() => database.drop());

/** Reads a query in binary format. Returns its fields as hex, row by row, and the reported sizes of long rows. */
async function readRows(query: string): Promise<{ fields: string[]; reported: number[] }> {
  const fields: string[] = [];
  const reported: number[] = [];
  const onLongLine = async (bytes: number): Promise<void> => void reported.push(bytes);
  await database.door().withConnection(async (connection) => {
    for await (const block of connection.copyRows(query, { onLongLine })) fields.push(...fieldsOf(block));
  });
  return { fields, reported };
}

function fieldsOf({ bytes, fields }: RowBlock): string[] {
  return Array.from({ length: fields.length / 2 }, (_, index) => {
    return bytes.toString('hex', fields[2 * index], fields[2 * index + 1]);
  });
}

it('reads no rows, one row and null', async () => {
  expect((await readRows('select 1 where false')).fields).toEqual([]);
  expect((await readRows(`select 'é', null::text, '\\x00ff'::bytea, '{"a": 1}'::jsonb, 7::bigint`)).fields).toEqual([
    'c3a9',
    '',
    '00ff',
    `01${Buffer.from('{"a": 1}').toString('hex')}`,
    '0000000000000007',
  ]);
});

it('reads rows of all lengths, wherever the chunks end', async () => {
  const query = `select i, repeat(chr(97 + i % 26), (i * 7919) % 40000) from generate_series(1, 400) i`;
  const { fields } = await readRows(query);
  const { rows } = await database.pool.query<{ row: [string, string] }>(
    `select array[encode(int4send(i), 'hex'), encode(convert_to(text, 'UTF8'), 'hex')] as row from (${query}) as q (i, text)`,
  );
  expect(fields).toEqual(rows.flatMap(({ row }) => row));
});

it('reports the growing size of a row of many megabytes', async () => {
  const { fields, reported } = await readRows(`select repeat('x', 5000000)`);
  expect(fields[0]).toHaveLength(10_000_000);
  expect(reported.length).toBeGreaterThanOrEqual(3);
  expect(reported.toSorted((one, other) => one - other)).toEqual(reported);
});
