import type { PoolClient } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';

const others = 3_000;

const options = JSON.stringify({
  max_document_bytes: 100_000,
  max_deletes: 10,
  lock_timeout_ms: 9_000,
  max_entry_bytes: 1_000_000,
  max_work_bytes: 10_000_000,
  max_batch_work_bytes: 10_000_000,
  max_untimed_work_bytes: 10_000_000,
  max_hold_ms: 60_000,
  max_merge_ms: 60_000,
});

/** Commits of each kind that names its documents. */
const commits = [
  { action: 'document.put', changes: [{ op: 'put', name: 'name-1', value: 1 }] },
  { action: 'document.patch', changes: [{ op: 'merge', name: 'name-2', value: { a: { b: 1 } } }] },
  { action: 'document.put', changes: [{ op: 'put', name: 'name-1', value: 2 }], idempotency_key: 'key' },
  { action: 'document.put', changes: [{ op: 'put', name: 'name-1', value: 2 }], idempotency_key: 'key' },
  { action: 'document.delete', changes: [{ op: 'delete', name: 'name-2' }], precondition: { document: 'name-3' } },
  { action: 'document.put', changes: [{ op: 'put', name: 'new', value: 1 }] },
  { action: 'document.put', changes: [{ op: 'put', name: 'new', value: 1 }], idempotency_key: 'key-7' },
].map((one) => ({ actor: 'admin', request_id: 'request', ...one }));

/** All of them in one batch, and each in a batch of its own, for which `loom_commit` has another statement. */
const batches = [commits, ...commits.map((one) => [one])].map((batch) => JSON.stringify(batch));

const commit = (client: PoolClient, batch: string) =>
  client.query(
    `select loom_commit('default', jsonb_agg(value || jsonb_build_object('event_id', gen_random_uuid())), $2)
       from jsonb_array_elements($1) as c (value)`,
    [batch, options],
  );

/** Inserts documents, entries and index rows beside those that the batch names. */
const fill = (client: PoolClient) =>
  client.query(
    `with document as (
       insert into loom_document (state_key, name, value, revision)
       select 'default', 'name-' || n, '{"a": 1}', n from generate_series(20, ${others}) n
     ), change as (
       insert into loom_change (state_key, name, seq, revision, op)
       select 'default', 'name-' || n, n, n, 'put' from generate_series(20, ${others}) n
     ), entry as (
       insert into loom_audit (state_key, seq, event_id, idempotency_key, recorded_at, action, entry, hash)
       select 'default', n, gen_random_uuid(), 'key-' || n, now(), 'document.put', '{}', sha256('') from generate_series(20, ${others}) n
     )
     update loom_state set audit_seq = ${others}, revision = ${others}, documents = ${others}, bytes = 1000000 where state_key = 'default'`,
  );

/** Empties the state and commits once, so that this session has made its plans. */
async function startEmpty(client: PoolClient): Promise<void> {
  await client.query(
    `truncate loom_document, loom_change; set session_replication_role = replica; truncate loom_audit; reset session_replication_role;
     delete from loom_state; insert into loom_state (state_key, epoch) values ('default', 'epoch')`,
  );
}

/** Returns the rows that this session has read and not yet reported. */
async function countReads(client: PoolClient): Promise<number> {
  const { rows } = await client.query(
    `select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::int as read from pg_stat_xact_user_tables where relname like 'loom\\_%'`,
  );
  return rows[0].read;
}

/** Commits each batch, and undoes it. Returns the rows that the statements of the batch with the most read. */
async function rowsRead(client: PoolClient): Promise<number> {
  let most = 0;
  for (const batch of batches) {
    await client.query('begin');
    const before = await countReads(client);
    await commit(client, batch);
    most = Math.max(most, (await countReads(client)) - before);
    await client.query('rollback');
  }
  return most;
}

let database: TestDatabase;
let client: PoolClient;
beforeAll(async () => {
  database = await createTestDatabase();
  client = await database.pool.connect();
});
afterAll(async () => {
  client.release();
  await database.drop();
});

describe('a batch reads only the rows that it names', () => {
  it('with plans from the time when the tables were empty', async () => {
    await startEmpty(client);
    await rowsRead(client);
    await fill(client);
    expect(await rowsRead(client)).toBeLessThan(100);
  });

  it('with plans from the time when the tables were small', async () => {
    await startEmpty(client);
    for (const batch of batches) await commit(client, batch);
    await client.query('analyze loom_document, loom_audit, loom_change');
    await rowsRead(client);
    await fill(client);
    expect(await rowsRead(client)).toBeLessThan(100);
  });

  it('with statistics of large tables', async () => {
    await client.query('analyze loom_document, loom_audit, loom_change');
    expect(await rowsRead(client)).toBeLessThan(100);
  });
});
