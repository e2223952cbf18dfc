import { afterAll, beforeAll, expect, it } from 'vitest';
import { limits } from '../../../src/limits.ts';
import type { Database } from '../../../src/persistence/connection/database.ts';
import { createDocumentReader, READ_DOCUMENTS } from '../../../src/persistence/read/document.ts';
import { rounds } from '../../setup/depth.ts';
import { openNodes, outcomeOf, type TestNodes } from '../../setup/node/nodes.ts';
import { oddNames } from '../../setup/values/odd-documents.ts';

let nodes: TestNodes;
beforeAll(async () => {
  nodes = await openNodes();
});
afterAll(() => nodes.close());

/** Returns a reader, and the number of names in each of its statements. */
function countedReader(stateKey = 'default') {
  const statements: number[] = [];
  const door = nodes.database.door();
  const database: Database = {
    ...door,
    firstRow: (text, values) => {
      statements.push(1);
      return door.firstRow(text, values);
    },
    rows: (text, values = []) => {
      statements.push([values[1]].flat().length);
      return door.rows(text, values);
    },
  };
  return { read: createDocumentReader(database, stateKey), statements };
}

it('returns to each of many concurrent readers its own document, from a few statements', async () => {
  const names = [...oddNames, ...Array.from({ length: 150 }, (_, index) => `name-${index}`)];
  const changes = names.map((name) => ({ op: 'put' as const, name, json: JSON.stringify({ name }) }));
  await nodes.node.commit({ changes });
  const large = 'x'.repeat(2 * limits.smallTextBytes);
  await nodes.node.put('large', large);
  const wanted = [...names, 'large', 'absent', 'absent too', ...names.toReversed()];
  const { read, statements } = countedReader();
  const found = await Promise.all(wanted.map((name) => read(name)));
  for (const [index, name] of wanted.entries()) {
    const document = found[index];
    const value = name === 'large' ? large : { name };
    if (name.startsWith('absent')) expect(document).toBeUndefined();
    else expect([name, JSON.parse(document?.text ?? '')]).toEqual([name, value]);
  }
  // The second statement for the large document has it alone.
  const distinct = names.length + 3;
  expect(statements.reduce((sum, count) => sum + count)).toBe(distinct + 1);
  expect(Math.max(...statements)).toBe(limits.maxBatchReads);
  expect(statements).toHaveLength(Math.ceil(distinct / limits.maxBatchReads) + 1);
});

it('sees what was committed before the read began, however many readers there are', async () => {
  const { read } = countedReader();
  const client = async (name: string): Promise<void> => {
    for (let value = 1; value <= rounds({ quick: 10, full: 200 }); value += 1) {
      await nodes.node.put(name, value);
      const both = await Promise.all([read(name), read('name-0')]);
      expect(both.map((document) => document?.text.slice(0, 8))).toEqual([String(value), '{"name":']);
    }
  };
  await Promise.all(Array.from({ length: 24 }, (_, index) => client(`own-${index}`)));
});

it('answers the other readers when one row cannot be read', async () => {
  const names = ['good-1', 'broken', 'good-2'];
  await nodes.node.commit({ changes: names.map((name) => ({ op: 'put' as const, name, json: '1' })) });
  // A revision that no number can hold.
  await nodes.database.pool.query(
    `update loom_document set revision = 9007199254740993 where state_key = 'default' and name = 'broken'`,
  );
  const { read } = countedReader();
  expect(await Promise.all(names.map((name) => outcomeOf(read(name))))).toEqual(['made', 'internal', 'made']);
});

it('answers every reader when the database cannot be reached, or the state does not exist', async () => {
  const { read } = countedReader('other');
  const outcomes = await Promise.all(['a', 'b', 'a'].map((name) => outcomeOf(read(name))));
  expect(outcomes).toEqual(['starting', 'starting', 'starting']);
  const gone = nodes.database.door();
  const closed = createDocumentReader(
    { ...gone, rows: () => gone.rows('select pg_terminate_backend(pg_backend_pid())') },
    'default',
  );
  expect(await Promise.all(['a', 'b'].map((name) => outcomeOf(closed(name))))).toEqual([
    'database_unavailable',
    'database_unavailable',
  ]);
});

it('looks each name up by its key, whatever PostgreSQL knows of the table', async () => {
  const { pool } = nodes.database;
  await pool.query(
    `insert into loom_document (state_key, name, value, revision)
     select 'default', 'many-' || n, '{}', 1 from generate_series(1, 5000) n`,
  );
  for (const statement of ['select 1', 'analyze loom_document']) {
    await pool.query(statement);
    const names = Array.from({ length: 60 }, (_, index) => `many-${index}`);
    const { rows } = await pool.query<{ 'QUERY PLAN': unknown }>(`explain (analyze, format json) ${READ_DOCUMENTS}`, [
      'default',
      names,
      limits.smallTextBytes,
    ]);
    const plan = JSON.stringify(rows[0]?.['QUERY PLAN']);
    expect(plan).toContain('loom_document_pkey');
    expect(plan).not.toMatch(/"Node Type":"Seq Scan"[^{}]*"Relation Name":"loom_document"/);
  }
});
