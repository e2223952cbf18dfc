import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { rebuildIndex } from '../../../src/persistence/audit/rebuild.ts';
import { createRunLedger } from '../../../src/persistence/runs/ledger.ts';
import { readServingFacts } from '../../../src/persistence/schema/serving-facts.ts';
import { depth } from '../../setup/depth.ts';
import { openTestStore, type TestStore, verify } from '../../setup/node/store.ts';
import { createTestRoles, type TestRoles } from '../../setup/roles/roles.ts';
import { takeBackup } from '../../setup/runs/ledger.ts';
import { createEmptyDatabase, openTolerantPool, type TestDatabase } from '../../setup/server/database.ts';
import { openDoor } from '../../setup/server/door.ts';
import { applyMigrations } from '../../setup/server/migrations.ts';
import { verifyBySql } from '../../setup/server/verify-sql.ts';

let database: TestDatabase;
let roles: TestRoles;
let node: TestStore;
beforeAll(async () => {
  database = await createEmptyDatabase();
  roles = createTestRoles(database.pool);
  await roles.apply();
  await applyMigrations(roles.as('owner', database.url));
  await roles.apply();
  node = await openTestStore(roles.as('serve', database.url));
});
afterAll(async () => {
  await node.close();
  await roles.drop();
  await database.drop();
});

/** Runs a statement as a role, and returns `done` or the SQLSTATE of its refusal. */
async function outcome(role: 'owner' | 'serve' | 'read', statement: string): Promise<string> {
  const client = new pg.Client({ connectionString: roles.as(role, database.url) });
  await client.connect();
  try {
    await client.query(statement);
    return 'done';
  } catch (error) {
    return error instanceof pg.DatabaseError ? String(error.code) : String(error);
  } finally {
    await client.end();
  }
}

/** Resolves when a session waits for a lock on this table. */
async function waitingFor(table: string): Promise<void> {
  const count = async () => {
    const { rowCount } = await database.pool.query(
      'select from pg_locks where not granted and relation = $1::regclass',
      [table],
    );
    return rowCount;
  };
  await expect.poll(count, { interval: 10, timeout: 20_000 }).toBeGreaterThan(0);
}

const DENIED = '42501';
const OPEN = `select set_config('loom.audit_rewrite', 'restore', true)`;

describe('the roles of docs/roles.sql', () => {
  it('let a node do all its work', async () => {
    await node.put('a', 1);
    await node.put('b', { n: 1 });
    const backup = await node.takeBackup();
    await node.commit({ action: 'document.patch', changes: [{ op: 'merge', name: 'b', json: '{"m":null,"n":2}' }] });
    await node.commit({ action: 'state.put', changes: [{ op: 'put', name: 'c', json: '1' }] });
    await node.restore(backup, { truncate_audit: true });
    await node.undo();
    await node.restore(backup);
    await node.restore(backup, { into_scratch: 'trial' });
    await node.store.dropScratch('trial');
    await rebuildIndex(node.database, 'default');
    const ledger = createRunLedger(node.database, { stateKey: 'default', node: 'a' });
    for (const hour of [1, 2]) await takeBackup(ledger, hour);
    expect(await ledger.beginDeletion('backup-1')).toBe(true);
    await ledger.recordDeleted('backup-1');
    expect(await verify(node)).toMatchObject({ ok: true });
    expect(await node.state()).toEqual({ a: 1, b: { n: 1 } });
    const { rows } = await node.pool.query('select role, after_seq, entries from loom_removal');
    expect(rows).toEqual([{ role: roles.serve, after_seq: 2, entries: 2 }]);
  });

  it('lack no right, and stay as they are when the file runs again', async () => {
    await roles.apply();
    const door = openDoor(roles.as('serve', database.url), 1);
    expect(await readServingFacts(door, 'default')).toMatchObject({ rights: [], missing: [], filtered: [] });
    await door.close({ deadlineMs: 5_000 });
  });

  it.each([
    ['edit an entry', `update loom_audit set action = 'x'`],
    ['edit an entry with the guard open', `begin; ${OPEN}; update loom_audit set action = 'x'; commit`],
    ['delete entries with the guard open', `begin; ${OPEN}; delete from loom_audit; commit`],
    ['truncate the trail with the guard open', `begin; ${OPEN}; truncate loom_audit; commit`],
    ['disable the guard', 'alter table loom_audit disable trigger loom_audit_append_only'],
    ['turn triggers off', 'set session_replication_role = replica'],
    [
      'redefine a function',
      `create or replace function loom_chain_hash(previous_hash bytea, entry jsonb) returns bytea language sql as 'select $1'`,
    ],
    ['add a function', `create function shadow() returns int language sql as 'select 1'`],
    ['add a column', 'alter table loom_document add column more text'],
    ['drop a table', 'drop table loom_change'],
    ['add a table', 'create table more (n int)'],
    ['edit the schema version', `update loom_meta set value = '9' where key = 'schema_version'`],
    ['erase the record of removed entries', 'delete from loom_removal'],
    ['forge a record of removed entries', `insert into loom_removal select 'default', now(), 'x', 0, 0, 0, ''`],
    ['edit an undo record', 'update loom_snapshot set previous_revision = 0'],
    ['remove entries that no undo record keeps', `select loom_remove_entries('default', 1)`],
    [
      'remove entries that it has kept, without an entry that names them',
      `begin;
       insert into loom_snapshot_audit (state_key, revision, seq, entry, hash)
         select state_key, 9999, seq, entry, hash from loom_audit where state_key = 'default' and seq > 1;
       select loom_remove_entries('default', 1);
       commit`,
    ],
  ])('refuse the serving role to %s', async (_what, statement) => {
    expect(await outcome('serve', statement)).toBe(DENIED);
  });

  it('refuse the serving role to remove the entries of a state whose row it has deleted, or marked as scratch', async () => {
    const remove = `select loom_remove_entries('default', 0)`;
    const gone = `begin; delete from loom_state where state_key = 'default'; ${remove}; commit`;
    expect(await outcome('serve', gone)).toBe('P0002');
    const marked = `begin; update loom_state set scratch = true where state_key = 'default'; ${remove}; commit`;
    expect(await outcome('serve', marked)).toBe(DENIED);
    const { rows } = await node.pool.query(`select count(*) as count from loom_audit where state_key = 'default'`);
    expect(rows[0].count).toBeGreaterThan(0);
  });

  it('let the reading role read and verify everything, and change nothing', async () => {
    const pool = openTolerantPool({ connectionString: roles.as('read', database.url), max: 1 });
    try {
      expect(await verifyBySql(pool)).toMatchObject({ ok: true });
      const { rows } = await pool.query(
        `select relname as name from pg_class where relkind = 'r' and relname like 'loom\\_%' and not has_table_privilege(oid, 'select')`,
      );
      expect(rows).toEqual([]);
    } finally {
      await pool.end();
    }
    for (const statement of [
      `insert into loom_document (state_key, name, value, revision) values ('default', '${randomUUID()}', '1', 1)`,
      `update loom_state set revision = 0`,
      'delete from loom_document',
      `select loom_commit('default', '[]', '{}')`,
      `select loom_remove_entries('default', 0)`,
      'create temporary table t (n int); create table more (n int)',
    ]) {
      expect([statement, await outcome('read', statement)]).toEqual([statement, DENIED]);
    }
  });

  describe('take the tables over', () => {
    let holder: pg.Client;
    beforeEach(async () => {
      holder = new pg.Client({ connectionString: database.url });
      await holder.connect();
      await holder.query(`reassign owned by ${roles.owner} to current_user`);
    });
    afterEach(async () => {
      await holder.end();
      await roles.apply();
      const door = openDoor(roles.as('serve', database.url), 1);
      expect(await readServingFacts(door, 'default')).toMatchObject({ rights: [], missing: [], filtered: [] });
      await door.close({ deadlineMs: 5_000 });
    });

    it.each([
      ['loom_state', 'loom_document'],
      ['loom_document', 'loom_state'],
    ])('without a deadlock with a transaction that reads %s and then %s', async (first, second) => {
      await holder.query(`begin; select from ${first}`);
      const applied = roles.apply();
      await waitingFor(first);
      // PostgreSQL looks for deadlocks when a session has waited for a second.
      await holder.query(`select from ${second}; commit`);
      await applied;
    });

    it('or fail with a hint while a backup goes on', { timeout: 60_000 }, async () => {
      await holder.query('begin; select from loom_document');
      const hint = expect.stringContaining('when no backup');
      if (depth === 'full') await expect(roles.apply()).rejects.toMatchObject({ code: '55P03', hint });
      await holder.query('commit');
    });
  });

  it('let the owner migrate', async () => {
    await applyMigrations(roles.as('owner', database.url));
    expect(await outcome('owner', 'begin; alter table loom_document add column more text; rollback')).toBe('done');
  });
});
