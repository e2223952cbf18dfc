import { readFile } from 'node:fs/promises';
import type { Pool } from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startProgram, waitUntilReady } from '../../setup/node/program.ts';
import { openTestStore, type TestStore, verify } from '../../setup/node/store.ts';
import { createEmptyDatabase, type TestDatabase } from '../../setup/server/database.ts';
import { applyMigrations } from '../../setup/server/migrations.ts';
import { verifyBySql } from '../../setup/server/verify-sql.ts';

const file = await readFile(new URL('../../../docs/partition-by-state.sql', import.meta.url), 'utf8');
/** The file with fewer partitions, which are enough to separate three states, and are created sooner. */
const partitionByState = file.replace('v_partitions constant int := 16', 'v_partitions constant int := 4');
const tables = ['loom_document', 'loom_audit', 'loom_change', 'loom_snapshot_document', 'loom_snapshot_audit'];
const stateKeys = ['default', 'orders', 'prices'];

let database: TestDatabase;
let stores: TestStore[];
beforeEach(async () => {
  database = await createEmptyDatabase();
  await applyMigrations(database.url);
  stores = await Promise.all(stateKeys.map((stateKey) => openTestStore(database.url, { stateKey, poolMax: 2 })));
});
afterEach(async () => {
  await Promise.all(stores.map((store) => store.close()));
  await database.drop();
});

/** Makes a state with documents, a trail and an undo record. Returns a backup of it. */
async function makeHistory(store: TestStore): Promise<string> {
  await store.put('kept', { of: store.stateKey });
  await store.put('changed', { n: 1 });
  const backup = await store.backup();
  await store.commit({ action: 'document.patch', changes: [{ op: 'merge', name: 'changed', json: '{"n":2}' }] });
  await store.commit({ action: 'document.delete', changes: [{ op: 'delete', name: 'kept' }] });
  await store.restore(backup, { truncate_audit: true });
  return backup;
}

/** Returns all rows of a table, sorted. */
async function rowsOf(pool: Pool, table: string): Promise<string[]> {
  const { rows } = await pool.query<{ row: string }>(`select to_jsonb(t)::text as row from ${table} t`);
  return rows.map(({ row }) => row).sort();
}

/** Returns the indexes, constraints and triggers of the tables. */
async function definitionsOf(pool: Pool): Promise<string[]> {
  const { rows } = await pool.query<{ line: string }>(
    `select replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ') as line from pg_index where indrelid::regclass::text = any ($1)
     union all select conname || pg_get_constraintdef(oid) from pg_constraint
       where conrelid::regclass::text = any ($1) and contype in ('c', 'p')
     union all select pg_get_triggerdef(oid) from pg_trigger where tgrelid::regclass::text = any ($1) and not tgisinternal
     order by line`,
    [tables],
  );
  return rows.map(({ line }) => line);
}

test('docs/partition-by-state.sql moves every row, and everything works afterwards', { timeout: 120_000 }, async () => {
  const { pool } = database;
  const backups = await Promise.all(stores.map(makeHistory));
  await pool.query('grant select on loom_audit to public');
  const definitions = await definitionsOf(pool);
  const before = await Promise.all(tables.map((table) => rowsOf(pool, table)));

  await pool.query(partitionByState);

  expect(await Promise.all(tables.map((table) => rowsOf(pool, table)))).toEqual(before);
  const used = await pool.query(`select distinct tableoid from loom_document`);
  expect(used.rows.length).toBeGreaterThan(1);
  const kinds = await pool.query(
    `select relname, relkind from pg_class where relname = any ($1) and relkind <> 'p' or relname like '%\\_whole'`,
    [tables],
  );
  expect(kinds.rows).toEqual([]);
  const granted = await pool.query(`select has_table_privilege('pg_monitor', 'loom_audit', 'select') as granted`);
  expect(granted.rows).toEqual([{ granted: true }]);
  expect(await definitionsOf(pool)).toEqual(definitions);

  for (const [index, store] of stores.entries()) await useState(store, backups[index] ?? '');
});

/** Uses the connections from before the change, whose plans name the old tables. */
async function useState(store: TestStore, backup: string): Promise<void> {
  await store.undo();
  expect(await store.state()).toEqual({ changed: { n: 2 } });
  await store.commit({
    action: 'state.patch',
    idempotencyKey: 'once',
    changes: [
      { op: 'merge', name: 'changed', json: '{"n":3}' },
      { op: 'put', name: 'added', json: '{}' },
    ],
  });
  await store.restore(backup);
  expect(await store.state()).toEqual({ kept: { of: store.stateKey }, changed: { n: 1 } });
  await store.restore(await store.backup(), { truncate_audit: true });
  expect(await verify(store)).toMatchObject({ ok: true });
  expect(await verifyBySql(store.pool, store.stateKey)).toMatchObject({ ok: true });
}

test('after docs/partition-by-state.sql, the trail stays append-only and a node serves', {
  timeout: 120_000,
}, async () => {
  const { pool } = database;
  await stores[0]?.put('one', 1);
  await pool.query(partitionByState);
  const { rows } = await pool.query<{ name: string }>('select tableoid::regclass::text as name from loom_audit');
  for (const table of ['loom_audit', ...rows.map(({ name }) => name)]) {
    for (const change of [`update ${table} set action = 'x'`, `delete from ${table}`, `truncate ${table}`])
      await expect(pool.query(change)).rejects.toThrow('append-only');
  }
  await expect(pool.query(partitionByState)).rejects.toThrow('is partitioned already');
  const node = await startProgram({
    env: { LOOM_PG_URL: database.url, LOOM_ADMIN_TOKEN: 'admin-token-of-partitions' },
  });
  try {
    await waitUntilReady(node.url);
  } finally {
    await node.stop();
  }
});

test('the statements for Citus in docs/scaling.md distribute every table of states', async () => {
  const { rows } = await database.pool.query<{ name: string }>(
    `select table_name as name from information_schema.columns
      where table_schema = current_schema() and column_name = 'state_key' order by name`,
  );
  const page = await readFile(new URL('../../../docs/scaling.md', import.meta.url), 'utf8');
  const distributed = [...page.matchAll(/create_distributed_table\('(\w+)', 'state_key'/g)].map(([, name]) => name);
  expect(distributed.toSorted()).toEqual(rows.map(({ name }) => name));
});
