import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { migrate } from '../../../src/persistence/schema/migrate.ts';
import { loadMigrations } from '../../../src/persistence/schema/migrations.ts';
import { openEarlierStore } from '../../setup/node/earlier-store.ts';
import { expectIndexed, expectTrailMakesState } from '../../setup/node/fold.ts';
import { openTestStore, type TestStore, verify } from '../../setup/node/store.ts';
import { createEmptyDatabase, type TestDatabase } from '../../setup/server/database.ts';

const migrations = await loadMigrations();

let database: TestDatabase;
let earlier: TestStore;
let other: TestStore;
/** A session of the test that holds what the migration waits for. */
let holder: pg.Client;

beforeEach(async () => {
  database = await createEmptyDatabase();
  await migrate(database.door(), migrations.slice(0, 3));
  earlier = await openEarlierStore(3, database.url);
  other = await openEarlierStore(3, database.url, { stateKey: 'other' });
  holder = new pg.Client({ connectionString: database.url });
  await holder.connect();
  for (const node of [earlier, other]) {
    await node.put('a', { n: 1 });
    await node.commit({ action: 'document.patch', changes: [{ op: 'merge', name: 'a', json: '{"m":2}' }] });
    await node.put('b', 1);
    await node.commit({ action: 'document.delete', changes: [{ op: 'delete', name: 'b' }] });
    await node.restore(await node.backup());
    await node.commit({
      action: 'state.put',
      changes: ['x', 'y'].map((name) => ({ op: 'put' as const, name, json: '"x"' })),
    });
  }
});
afterEach(async () => {
  await holder.end();
  await earlier.close();
  await other.close();
  await database.drop();
});

/** Resolves when as many sessions as this wait for a lock of this type: on a table, or an advisory one. */
async function waiting(type: 'relation' | 'advisory', sessions: number): Promise<void> {
  const count = async () => {
    const { rows } = await database.pool.query<{ waiting: number }>(
      `select count(*)::int as waiting from pg_locks
        where not granted and locktype = $1 and database = (select oid from pg_database where datname = current_database())`,
      [type],
    );
    return rows[0]?.waiting ?? 0;
  };
  await expect.poll(count, { interval: 10, timeout: 20_000 }).toBeGreaterThanOrEqual(sessions);
}

/** Asserts what the index of each state is, and that a restore by a new node makes each trail complete. */
async function expectMigrated(): Promise<void> {
  for (const { stateKey } of [earlier, other]) {
    const node = await openTestStore(database.url, { stateKey });
    try {
      await expectIndexed(node);
      const indexed = await database.pool.query('select * from loom_change where state_key = $1 order by name, seq', [
        stateKey,
      ]);
      await database.pool.query('select loom_rebuild_changes($1)', [stateKey]);
      const rebuilt = await database.pool.query('select * from loom_change where state_key = $1 order by name, seq', [
        stateKey,
      ]);
      expect(rebuilt.rows).toEqual(indexed.rows);
      await node.put('new', 1);
      await node.restore(await node.backup());
      await expectTrailMakesState(node);
      expect(await verify(node)).toMatchObject({ ok: true });
    } finally {
      await node.close();
    }
  }
  const states = await database.pool.query(
    'select distinct state_key from loom_change except select state_key from loom_state',
  );
  expect(states.rows).toEqual([]);
}

describe('the migration that indexes the trail', () => {
  it('indexes the entries of every state, in a database of schema version 3', async () => {
    await migrate(database.door(), migrations);
    const { rows } = await database.pool.query(
      `select name, op, revision, encode(sha256, 'hex') as sha256 from loom_change where state_key = 'other' order by seq, name`,
    );
    const x = '[0-9a-f]{64}';
    expect(rows).toEqual([
      { name: 'a', op: 'put', revision: '1', sha256: expect.stringMatching(x) },
      { name: 'a', op: 'merge', revision: '2', sha256: null },
      { name: 'b', op: 'put', revision: '3', sha256: expect.stringMatching(x) },
      { name: 'b', op: 'delete', revision: '4', sha256: null },
      { name: '', op: 'unknown', revision: '0', sha256: null },
      { name: 'a', op: 'delete', revision: '6', sha256: null },
      { name: 'x', op: 'put', revision: '6', sha256: expect.stringMatching(x) },
      { name: 'y', op: 'put', revision: '6', sha256: expect.stringMatching(x) },
    ]);
    await expectMigrated();
  });

  it('indexes what is committed between its first pass and its lock, and calls that wait for the lock', async () => {
    // Commits take this lock, too. The migration waits for it with its first pass done.
    await holder.query('begin; lock table loom_audit in row exclusive mode');
    const migrated = migrate(database.door(), migrations);
    await waiting('relation', 1);
    // A commit that has begun before the migration ends runs the earlier function to its end.
    const late = Promise.all([earlier.put('late', 1), other.put('late', 1)]);
    await waiting('relation', 3);
    await holder.query('commit');
    expect(await migrated).toEqual(migrations.slice(3).map(({ name }) => name));
    await late;
    await expectMigrated();
  });

  it('indexes a state again whose last entries a restore has replaced meanwhile', async () => {
    const early = await earlier.backup();
    await earlier.put('later', 1);
    await earlier.put('later', 2);
    await holdAtCommit();
    await holder.query('select pg_advisory_lock(1)');
    const restored = earlier.restore(early, { truncate_audit: true });
    await waiting('advisory', 1);
    // The first pass of the migration finds the entries that the restore has removed, and then waits for it.
    const migrated = migrate(database.door(), migrations);
    await waiting('relation', 1);
    await holder.query('select pg_advisory_unlock(1)');
    await Promise.all([migrated, restored]);
    expect((await database.pool.query(`select from loom_change where name = 'later'`)).rowCount).toBe(0);
    await expectMigrated();
  });

  /** Makes a restore wait before it commits, while another session holds the advisory lock 1. */
  async function holdAtCommit(): Promise<void> {
    await database.pool.query(`
      create function test_hold() returns trigger language plpgsql as $$
      begin
        perform pg_advisory_xact_lock(1);
        return null;
      end $$;
      create constraint trigger test_hold after update on loom_state deferrable initially deferred
        for each row when (old.last_restore_at is distinct from new.last_restore_at) execute function test_hold()`);
  }

  it('goes on under load, with commits and truncating restores by an earlier node', async () => {
    const early = await earlier.backup();
    let isDone = false;
    const work = async (node: TestStore): Promise<void> => {
      for (let turn = 0; !isDone || turn < 5; turn += 1) await node.put(`p${turn % 3}`, turn);
    };
    const load = [work(earlier), work(earlier), work(other), work(other)];
    await earlier.restore(early, { truncate_audit: true });
    const restored = earlier.restore(early, { truncate_audit: true });
    await migrate(database.door(), migrations);
    await restored;
    isDone = true;
    await Promise.all(load);
    await expectMigrated();
  });
});
