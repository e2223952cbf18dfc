import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../../src/limits.ts';
import { migrate } from '../../../src/persistence/schema/migrate.ts';
import { loadMigrations } from '../../../src/persistence/schema/migrations.ts';
import type { ParsedBackup } from '../../setup/backup/chain.ts';
import { openNodes, outcomeOf, type TestNodes } from '../../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../../setup/node/store.ts';
import { createEmptyDatabase } from '../../setup/server/database.ts';

let nodes: TestNodes;
let node: TestStore;
beforeEach(async () => {
  nodes = await openNodes();
  node = nodes.node;
});
afterEach(() => nodes.close());

const create = (idempotencyKey: string, name = 'order') =>
  node.commit({ idempotencyKey, changes: [{ op: 'put', name, json: '1' }] });

describe('an Idempotency-Key', () => {
  it('from before a restore does not repeat its answer: the document is gone, and only a new key brings it back', async () => {
    await node.put('before', 1);
    const backup = await node.backup();
    await create('key');
    await node.restore(backup);
    await expect(create('key')).rejects.toMatchObject({ code: 'idempotency_key_outdated', status: 409 });
    expect(await node.state()).toEqual({ before: 1 });
    expect(await outcomeOf(create('new key'))).toBe('made');
    expect(await create('new key')).toMatchObject({ replayed: true });
    expect(await node.state()).toEqual({ before: 1, order: 1 });
  });

  it('from before an undo does not repeat its answer either', async () => {
    const backup = await node.backup();
    await node.restore(backup);
    await create('key');
    await node.undo();
    expect(await outcomeOf(create('key'))).toBe('idempotency_key_outdated');
  });

  it('repeats its answer at the largest revision that a restore can lead to', async () => {
    await node.pool.query(`update loom_state set revision = ${limits.maxRestoredRevision}`);
    await create('key');
    expect(await create('key')).toMatchObject({ revision: limits.maxRestoredRevision + 1, replayed: true });
  });

  it('of an entry that a truncating restore has removed is free again', async () => {
    await node.put('before', 1);
    const backup = await node.backup();
    await create('key');
    await node.restore(backup, { truncate_audit: true });
    expect(await create('key')).toMatchObject({ replayed: false });
  });

  it('of an adopted entry does not answer, even if the entry was forged to look like an answer', async () => {
    await create('key');
    const backup: ParsedBackup = JSON.parse(await node.backup());
    const other = await openNodes();
    try {
      await other.node.restore(JSON.stringify(backup));
      const replay = other.node.commit({ idempotencyKey: 'key', changes: [{ op: 'put', name: 'order', json: '1' }] });
      await expect(replay).rejects.toMatchObject({ code: 'idempotency_key_outdated' });
    } finally {
      await other.close();
    }
  });

  it.each([
    ['an epoch that cannot be a header', `jsonb_build_object('epoch', E'a\\r\\nx: y')`],
    ['an epoch that is no text', `jsonb_build_object('epoch', 7::text || '"')`],
    ['a revision that is no number', `jsonb_build_object('revision', 'x')`],
    ['a revision with a fraction', `jsonb_build_object('revision', 1.5)`],
    ['the action of a restore', `jsonb_build_object('action', 'restore')`],
  ])('of an entry that was edited to have %s does not answer', async (_what, members) => {
    await create('key');
    await node.pool.query(`set session_replication_role = replica; update loom_audit set entry = entry || ${members}`);
    expect(await outcomeOf(create('key'))).toBe('idempotency_key_outdated');
    await node.put('other', 1);
  });

  it('is outdated after the migration only if the state was restored since', async () => {
    const migrations = await loadMigrations();
    const database = await createEmptyDatabase();
    await migrate(database.door(), migrations.slice(0, 2));
    const old = async (key: string) => {
      const change = { op: 'put', name: key, value: 1 };
      const sent = { action: 'document.put', actor: 'admin', request_id: 'x', idempotency_key: key, changes: [change] };
      await database.pool.query(
        `select loom_commit('default', jsonb_build_array($1::jsonb || jsonb_build_object('event_id', gen_random_uuid())),
                  '{"max_document_bytes": 1000, "max_deletes": 10, "lock_timeout_ms": 1000}')`,
        [JSON.stringify(sent)],
      );
    };
    await database.pool.query(`insert into loom_state (state_key, epoch) values ('default', 'epoch')`);
    await old('first');
    // A restore by a node of schema version 2 leaves an undo record of the same time.
    await database.pool.query(
      `with entry as (
         insert into loom_audit (state_key, seq, event_id, recorded_at, action, entry, hash)
         select 'default', 2, gen_random_uuid(), now(), 'restore', '{}', sha256('') returning event_id, recorded_at
       ), kept as (
         insert into loom_snapshot (state_key, revision, event_id, kind, taken_at, previous_revision, replaced_state, documents, audit_entries, bytes, substantial)
         select 'default', 2, event_id, 'restore', recorded_at, 1, true, 0, 0, 0, true from entry
       )
       update loom_state set audit_seq = 2, revision = 2, last_restore_at = recorded_at from entry`,
    );
    await old('second');
    await migrate(database.door(), migrations);
    const upgraded = await openTestStore(database.url);
    try {
      const send = (name: string) =>
        outcomeOf(upgraded.commit({ idempotencyKey: name, changes: [{ op: 'put', name, json: '1' }] }));
      expect(await send('first')).toBe('idempotency_key_outdated');
      expect(await send('second')).toBe('made');
      expect((await upgraded.store.readHead()).revision).toBe(3);
    } finally {
      await upgraded.close();
      await database.drop();
    }
  });
});

it('a commit that is found by its event id is answered again, even if its answer was lost before an epoch began', async () => {
  const first = await create('key');
  await node.pool.query(`update loom_lineage set lineage = 'another'`);
  await node.put('other', 1);
  expect(await create('key')).toEqual({ ...first, replayed: true });
  expect(await verify(node)).toMatchObject({ ok: true, entries: 3 });
});
