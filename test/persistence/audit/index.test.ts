import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AuditQuery } from '../../../src/domain/audit.ts';
import { readHistory } from '../../../src/persistence/audit/history.ts';
import { openAudit, readAudit } from '../../../src/persistence/audit/read.ts';
import type { Database } from '../../../src/persistence/connection/database.ts';
import { rounds } from '../../setup/depth.ts';
import { createEmptyDatabase, type TestDatabase } from '../../setup/server/database.ts';
import { fillState } from '../../setup/server/filled-state.ts';

const DOCUMENTS = rounds({ quick: 1_000, full: 30_000 });
const NAME = 'document-7';
/** The entries take some hundred pages at quick depth, and several thousand at full depth. */
const MAX_BUFFERS = 100;

let database: TestDatabase;
let door: Database;
beforeAll(async () => {
  database = await createEmptyDatabase();
  await fillState(database.url, { documents: DOCUMENTS, documentBytes: 300, entries: 3 * DOCUMENTS });
  door = database.door();
});
afterAll(() => database.drop());

/** Returns a database that counts the buffers that the statements with many rows use. */
function counted() {
  const buffers: number[] = [];
  const rows: Database['rows'] = async (sql, values) => {
    const plan = await door.rows<{ 'QUERY PLAN': string }>(
      `explain (analyze, buffers, costs off, timing off) ${sql}`,
      values,
    );
    const [first = ''] = plan.map((line) => line['QUERY PLAN']).filter((line) => line.includes('Buffers:'));
    buffers.push([...first.matchAll(/(?:hit|read)=(\d+)/g)].reduce((sum, [, count]) => sum + Number(count), 0));
    return door.rows(sql, values);
  };
  return { buffers, database: { ...door, rows, firstRow: door.firstRow } as Database };
}

const at = (seq: number): string => new Date(Date.parse('2026-01-01T00:00:00Z') + seq * 1_000).toISOString();

describe('in a long trail', () => {
  it('the history of a document reads its own changes only', async () => {
    const { buffers, database: counting } = counted();
    const page = await readHistory(counting, 'default', NAME, { limit: 100 });
    expect(page?.history.map(({ seq }) => seq)).toEqual([2, 1, 0].map((round) => round * DOCUMENTS + 8));
    const part = await readHistory(counting, 'default', NAME, { limit: 1, since: at(9), until: at(3 * DOCUMENTS) });
    expect(part?.history.map(({ seq }) => seq)).toEqual([2 * DOCUMENTS + 8]);
    expect(Math.max(...buffers)).toBeLessThan(MAX_BUFFERS);
  });

  it.each<Partial<AuditQuery>>([
    { document: NAME },
    { document: NAME, order: 'desc', limit: 1_000 },
    { document: 'no document of this name' },
    { limit: 5 },
    { since: at(2 * DOCUMENTS + 4), limit: 5 },
    { until: at(2 * DOCUMENTS), limit: 5, order: 'desc' },
    { since: at(100 * DOCUMENTS) },
  ])('a page finds its entries without a scan: %j', async (query) => {
    const { buffers, database: counting } = counted();
    const { entries } = await readAudit(counting, 'default', { limit: 100, order: 'asc', ...query });
    const expected = query.document === NAME ? 3 : (query.limit ?? 0);
    expect(entries).toHaveLength(expected);
    // The bisection of a time skips to ten minutes before it.
    expect(Math.max(...buffers)).toBeLessThan(MAX_BUFFERS + ((query.since ?? query.until) ? 200 : 0));
  });

  it('a stream of the entries of a document has the same lines as its page', async () => {
    const page = await readAudit(door, 'default', { limit: 100, order: 'asc', document: NAME });
    let streamed = '';
    for await (const chunk of await openAudit(door, 'default', { order: 'asc', document: NAME }, {}))
      streamed += String(chunk);
    expect(streamed).toBe(page.entries.map(({ text }) => `${text}\n`).join(''));
  });
});
