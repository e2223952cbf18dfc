import { afterAll, beforeAll, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';

const ENTRIES = 4_000;

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

/** Inserts a trail that PostgreSQL knows, and the undo records with its entries, which it does not know. */
const fill = `
  set local session_replication_role = replica;
  insert into loom_state (state_key, epoch, audit_seq) values ('default', 'epoch', ${ENTRIES});
  insert into loom_audit (state_key, seq, event_id, recorded_at, action, entry, hash)
  select 'default', n, gen_random_uuid(), now(), 'document.put', jsonb_build_object('seq', n), sha256(n::text::bytea)
    from generate_series(1, ${ENTRIES}) n;
  analyze loom_audit;
  insert into loom_snapshot_audit (state_key, revision, seq, entry, hash)
  select state_key, r, seq, entry, hash from generate_series(1, 3) r, loom_audit;
  set local session_replication_role = origin`;

const explain = `
  load 'auto_explain';
  set local auto_explain.log_min_duration = 0;
  set local auto_explain.log_nested_statements = on;
  set local auto_explain.log_analyze = on;
  set local auto_explain.log_timing = off;
  set local auto_explain.log_buffers = on;
  set local client_min_messages = log`;

/** The numbers of rows of each node of a plan, and of the comparisons that a join made in vain. */
const rowCounts = /actual rows=(\d+)(?:\.\d+)? loops=(\d+)|Rows Removed by (?:Join )?Filter: (\d+)/g;

it('each entry that a restore removes is looked up once in its undo record', async () => {
  const client = await database.pool.connect();
  const plans: string[] = [];
  client.on('notice', ({ message = '' }) => plans.push(message));
  try {
    await client.query('begin');
    await client.query(fill);
    await client.query(explain);
    const { rows } = await client.query(`select loom_remove_entries('default', 0) as removed`);
    expect(Number(rows[0].removed)).toBe(ENTRIES);
  } finally {
    await client.query('rollback');
    client.release();
  }
  const steps = plans.flatMap((plan) => [...plan.matchAll(rowCounts)]);
  const counts = steps.map(([, each, loops, removed]) => Number(removed ?? Number(each) * Number(loops)));
  const hits = plans
    .flatMap((plan) => [...plan.matchAll(/Buffers: shared hit=(\d+)/g)])
    .map(([, pages]) => Number(pages));
  expect(plans.join()).toContain('loom_snapshot_audit');
  // The way from the root of an index to an entry has a few pages.
  expect(Math.max(...hits)).toBeLessThan(20 * ENTRIES);
  expect(Math.max(...counts)).toBeLessThanOrEqual(3 * ENTRIES);
});
