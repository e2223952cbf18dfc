import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { CopyIn } from '../../../src/persistence/connection/copy-in.ts';
import { rounds } from '../../setup/depth.ts';
import { createEmptyDatabase, type TestDatabase } from '../../setup/server/database.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await createEmptyDatabase();
  await database.pool.query(
    `create table copied (position bigint, number bigint, at timestamptz, text text, bytes text, json jsonb, hex bytea,
       id uuid)`,
  );
});
afterAll(() => database.drop());

interface Row {
  number: bigint | null;
  at: bigint;
  text: string;
  json: string;
  hex: string;
  id: string;
}

const columns = ['position', 'number', 'at', 'text', 'bytes', 'json', 'hex', 'id'] as const;

async function copyIn(write: (copy: CopyIn) => Promise<void>): Promise<void> {
  await database.pool.query('truncate copied');
  await database.door().transaction('write', async (connection) => {
    const copy = connection.openCopyIn({ table: 'copied', columns });
    await write(copy);
    await copy.end();
  });
}

/** Writes a row with each verb. */
async function writeRow(copy: CopyIn, position: number, { number, at, text, json, hex, id }: Row): Promise<void> {
  const { row } = copy;
  row.addInteger(position);
  if (number === null) row.addNull();
  else row.addInteger(Number.isSafeInteger(Number(number)) ? Number(number) : number);
  row.addTimestamp(Number.isSafeInteger(Number(at)) ? Number(at) : at);
  row.addText(text);
  const bytes = Buffer.from(`<${text}>`);
  row.addTextBytes(bytes, 1, bytes.length - 1);
  const value = Buffer.from(json);
  row.addJson(value, 1, value.length, json.slice(0, 1));
  row.addHex(Buffer.from(`"${hex}"`), 1, hex.length + 1);
  row.addUuid(Buffer.from(`"${id}"`), 1);
  await copy.endRow();
}

async function readBack(): Promise<Row[]> {
  const { rows } = await database.pool.query<Record<keyof Row, string>>(
    `select number::text, (extract(epoch from at) * 1000000)::bigint::text as at, text, json::text, encode(hex, 'hex') as hex,
            id::text from copied where bytes = text order by position`,
  );
  return rows.map(({ number, at, ...rest }) => ({
    ...rest,
    number: number === null ? null : BigInt(number),
    at: BigInt(at),
  }));
}

const hexDigits = fc.array(fc.constantFrom(...'0123456789abcdef'), { maxLength: 200 }).map((digits) => digits.join(''));
const anyRow: fc.Arbitrary<Row> = fc.record({
  number: fc.option(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
  // The years 1 to 9999.
  at: fc.bigInt({ min: -62_135_596_800_000_000n, max: 253_402_300_799_999_999n }),
  text: fc.string({ unit: 'grapheme', maxLength: 100 }).map((text) => text.replaceAll('\0', '')),
  json: fc.nat(2000).map((length) => `{"a": "${'é\u2028'.repeat(length)}"}`),
  hex: hexDigits.map((digits) => digits.slice(digits.length % 2)),
  id: fc.uuid(),
});

it('writes the values of each type', async () => {
  const property = fc.asyncProperty(fc.array(anyRow, { maxLength: 60 }), async (rows) => {
    await copyIn(async (copy) => {
      for (const [position, row] of rows.entries()) await writeRow(copy, position, row);
    });
    expect(await readBack()).toEqual(rows);
  });
  await fc.assert(property, { numRuns: rounds({ quick: 10, full: 100 }) });
});

it('writes the values at the ends of each range, and control characters', async () => {
  const row = { at: 0n, text: '\u0001\u0002\n\\.', json: '{}', hex: '', id: '00000000-0000-0000-0000-00000000000f' };
  const numbers = [0n, 1n, -1n, 2n ** 32n, -(2n ** 32n) - 1n, 2n ** 53n - 1n, -(2n ** 63n), 2n ** 63n - 1n, null];
  // The last one is exact from 1970, and not from 2000.
  const times = [0n, -62_135_596_800_000_000n, 253_402_300_799_999_999n, -8_070_367_939_580_651n];
  const rows = numbers.map((number, index) => ({ ...row, number, at: times[index % times.length] ?? 0n }));
  await copyIn(async (copy) => {
    for (const [position, one] of rows.entries()) await writeRow(copy, position, one);
  });
  expect(await readBack()).toEqual(rows);
});

it.each([1, 2, 3])('ends after %i rows of which each fills a chunk', async (count) => {
  const text = 'x'.repeat(300_000);
  const row = { number: 1n, at: 0n, text, json: '{}', hex: '', id: '00000000-0000-0000-0000-00000000000f' };
  const rows = Array.from({ length: count }, () => row);
  await copyIn(async (copy) => {
    for (const [position, one] of rows.entries()) await writeRow(copy, position, one);
  });
  expect(await readBack()).toEqual(rows);
});

it('accepts no rows', async () => {
  await copyIn(async () => undefined);
  expect(await readBack()).toEqual([]);
});

it('leaves the connection usable after an abort, and after a row that PostgreSQL refuses', async () => {
  await database.door().withConnection(async (connection) => {
    const aborted = connection.openCopyIn({ table: 'copied', columns });
    aborted.row.addInteger(1);
    await aborted.abort();
    const refused = connection.openCopyIn({ table: 'copied', columns: ['json'] });
    const text = Buffer.from('{"a":');
    refused.row.addJson(text, 0, text.length);
    await refused.endRow();
    await expect(refused.end()).rejects.toMatchObject({ code: 'internal' });
    expect(await connection.firstRow('select count(*) as count from copied')).toEqual({ count: 0 });
  });
});
