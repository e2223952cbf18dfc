import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../../../src/limits.ts';
import { trailOf } from '../../../setup/node/history.ts';
import { openNodes, type TestNodes } from '../../../setup/node/nodes.ts';
import { type TestStore, verify } from '../../../setup/node/store.ts';
import { digestTables } from '../../../setup/server/digest.ts';

let nodes: TestNodes;
let node: TestStore;
beforeEach(async () => {
  nodes = await openNodes();
  node = nodes.node;
});
afterEach(() => nodes.close());

const remove = (name: string) => node.commit({ action: 'document.delete', changes: [{ op: 'delete', name }] });

/** Edits rows as a superuser does, without the trigger that guards the audit trail. */
const edit = (sql: string) =>
  nodes.database.pool.query(`begin; set local session_replication_role = replica; ${sql}; commit`);

/** Makes a truncating restore that adds, changes and removes a document, and removes four entries. */
async function restoreAll(): Promise<{ backup: string; eventId: string }> {
  await node.put('changed', 'old');
  await node.put('removed', 1);
  const backup = await node.backup();
  await node.put('changed', 'new');
  await remove('removed');
  await node.put('added', 2);
  await node.put('null', null);
  const { event_id: eventId } = await node.restore(backup, { truncate_audit: true });
  return { backup, eventId: eventId ?? '' };
}

const FORGED = `jsonb_set(a.entry, '{restore,undo_records,0,sha256}', to_jsonb(repeat('ab', 32)))`;

/** Replaces the digest in the entry, and computes the hash of this entry anew. */
const REHASHED = `update loom_audit a set entry = ${FORGED}, hash = loom_chain_hash(p.hash, ${FORGED})
  from loom_audit p where a.action = 'restore' and p.seq = a.seq - 1`;

const damages: [what: string, sql: string][] = [
  ['a value', `update loom_snapshot_document set value = '"forged"' where name = 'changed'`],
  ['a null in place of a value', `update loom_snapshot_document set value = null where name = 'changed'`],
  ['a value in place of none', `update loom_snapshot_document set value = '1' where value is null`],
  ['JSON null in place of none', `update loom_snapshot_document set value = 'null' where value is null`],
  ['none in place of JSON null', `update loom_snapshot_document set value = null where name = 'null'`],
  ['a name', `update loom_snapshot_document set name = 'other' where name = 'changed'`],
  ['a missing document', `delete from loom_snapshot_document where name = 'changed'`],
  ['no document', 'delete from loom_snapshot_document'],
  [
    'an additional document',
    `insert into loom_snapshot_document select state_key, revision, 'more', '1' from loom_snapshot`,
  ],
  ['an entry', `update loom_snapshot_audit set entry = entry || '{"actor":"x"}' where seq = 4`],
  ['a hash', `update loom_snapshot_audit set hash = decode(repeat('ab', 32), 'hex') where seq = 4`],
  ['the order of entries', 'update loom_snapshot_audit set seq = 100 - seq'],
  ['a missing entry', 'delete from loom_snapshot_audit where seq = 6'],
  [
    'an additional entry',
    `insert into loom_snapshot_audit select state_key, revision, 9, entry, hash
    from loom_snapshot_audit where seq = 6`,
  ],
  ['the previous revision', 'update loom_snapshot set previous_revision = previous_revision - 1'],
  ['the count of documents', 'update loom_snapshot set documents = 0'],
  ['the count of entries', 'update loom_snapshot set audit_entries = 0'],
  ['replaced_state', 'update loom_snapshot set replaced_state = not replaced_state'],
  ['the kind', `update loom_snapshot set kind = 'undo'`],
  ['the event id', 'update loom_snapshot set event_id = gen_random_uuid()'],
  ['the event id of a commit', `update loom_snapshot set event_id = (select event_id from loom_audit where seq = 1)`],
  ['the time', `update loom_snapshot set taken_at = taken_at - interval '1 s'`],
  ['the revision of the row', 'update loom_snapshot set revision = revision + 1'],
  [
    'the revision of the record',
    `update loom_snapshot set revision = revision + 1; update loom_snapshot_document set revision = revision + 1;
     update loom_snapshot_audit set revision = revision + 1`,
  ],
  [
    'the entry that names the record',
    `update loom_audit set entry = entry || '{"actor":"x"}' where action = 'restore'`,
  ],
  [
    'the digest in the entry',
    `update loom_audit set entry = jsonb_set(entry, '{restore,undo_records,0,sha256}', to_jsonb(repeat('ab', 32)))
      where action = 'restore'`,
  ],
  ['the digest in the entry, with a new hash', REHASHED],
  ['the digests removed from the entry', `update loom_audit set entry = entry #- '{restore,undo_records}'`],
  ['the entry removed', `delete from loom_audit where action = 'restore'`],
];

describe('an undo record that was edited by SQL', () => {
  it('is refused by the undo and its dry run, whatever was edited', async () => {
    await restoreAll();
    expect(await node.undo({ dryRun: true })).toMatchObject({ undo_record_verified: true });
    const tables = ['loom_snapshot', 'loom_snapshot_document', 'loom_snapshot_audit', 'loom_audit'];
    await edit(tables.map((table) => `create table saved_${table} as table ${table}`).join(';'));
    const intact = await digestTables(nodes.database.pool);
    for (const [what, sql] of damages) {
      await edit(sql);
      const before = await digestTables(nodes.database.pool);
      expect(before, what).not.toBe(intact);
      for (const dryRun of [true, false]) {
        expect(await node.undo({ dryRun }).catch((error: unknown) => error), what).toMatchObject({
          code: 'undo_record_damaged',
          status: 500,
        });
      }
      expect(await digestTables(nodes.database.pool), what).toBe(before);
      await edit(tables.map((table) => `truncate ${table}; insert into ${table} table saved_${table}`).join(';'));
    }
    expect(await digestTables(nodes.database.pool)).toBe(intact);
    expect(await node.undo()).toMatchObject({ undo_record_verified: true });
  });

  it('is refused if an older one is undone with later ones, but a newer one alone can be undone', async () => {
    const { backup, eventId } = await restoreAll();
    await node.put('changed', 'since');
    await node.restore(backup);
    await edit(
      `update loom_snapshot_document set value = '"forged"' where revision = (select min(revision) from loom_snapshot)`,
    );
    await expect(node.undo({ eventId })).rejects.toMatchObject({ code: 'undo_record_damaged' });
    expect(await node.undo()).toMatchObject({ undo_record_verified: true });
    expect(await node.state()).toMatchObject({ changed: 'since' });
    // The undo has carried the digest on, and not computed a new one from the edited rows.
    await expect(node.undo({ eventId })).rejects.toMatchObject({ code: 'undo_record_damaged' });
  });

  it('is refused if the entry that names it was rewritten before a later commit', async () => {
    await restoreAll();
    await node.put('later', 1);
    expect(await node.undo({ dryRun: true })).toMatchObject({ undo_record_verified: true });
    await edit(REHASHED);
    await expect(node.undo({ dryRun: true })).rejects.toMatchObject({ code: 'undo_record_damaged' });
  });

  it('is refused if it was added', async () => {
    await restoreAll();
    await edit(`insert into loom_snapshot select state_key, revision - 1, gen_random_uuid(), kind, taken_at, previous_revision - 1,
      replaced_state, 1, 0, 1, true from loom_snapshot;
      insert into loom_snapshot_document select state_key, min(revision), 'planted', '1' from loom_snapshot group by 1`);
    const planted = (await node.store.readUndoRecords())[1]?.event_id ?? '';
    await expect(node.undo({ eventId: planted })).rejects.toMatchObject({ code: 'undo_record_damaged' });
    expect(await node.undo()).toMatchObject({ undo_record_verified: true });
  });
});

describe('the digest of an undo record', () => {
  it('stays in the trail whichever entries later restores remove', async () => {
    const { backup, eventId } = await restoreAll();
    const before = { changed: 'new', added: 2, null: null };
    // Each of these removes the entry of the one before. Their records are evicted, and that of the first is not.
    for (let round = 0; round < limits.maxEmptyUndoRecords + 3; round += 1) {
      await node.restore(backup, { truncate_audit: true });
    }
    const trail = await trailOf(node);
    expect(trail.map(({ action }) => action)).toEqual(['document.put', 'document.put', 'restore']);
    expect(await node.undo({ eventId, dryRun: true })).toMatchObject({ undo_record_verified: true });
    await node.undo({ eventId });
    expect(await node.state()).toEqual(before);
    expect(await verify(node)).toMatchObject({ ok: true });
  });

  it('is absent from the trail of a scratch state', async () => {
    const { backup } = await restoreAll();
    await node.restore(backup, { into_scratch: 'trial' });
    const { rows } = await nodes.database.pool.query(
      `select entry -> 'restore' ? 'undo_records' as named from loom_audit where state_key <> 'default' and action = 'restore'`,
    );
    expect(rows).toEqual([{ named: false }]);
  });
});

describe('an undo record of an older version, whose entry names no digest', () => {
  /** Rewrites the last entry as a node of an older version would have written it. */
  const forget = () =>
    edit(`update loom_audit a set entry = entry #- array[action, 'undo_records'],
            hash = loom_chain_hash(coalesce((select p.hash from loom_audit p where p.state_key = a.state_key and p.seq = a.seq - 1),
                     decode(repeat('00', 32), 'hex')), entry #- array[action, 'undo_records'])
           from loom_state s where s.state_key = a.state_key and a.seq = s.audit_seq;
          update loom_state s set audit_hash = a.hash from loom_audit a where a.state_key = s.state_key and a.seq = s.audit_seq`);

  it('can be undone, and the report says that it is unverified', async () => {
    const { backup, eventId } = await restoreAll();
    await forget();
    expect(await verify(node)).toMatchObject({ ok: true });
    const unverified = {
      undo_record_verified: null,
      warnings: [expect.stringContaining('older version'), expect.stringContaining('brings back')],
    };
    expect(await node.undo({ dryRun: true })).toMatchObject(unverified);
    // A newer record has a digest. The report on both says that one of them has none.
    await node.put('changed', 'since');
    await node.restore(backup);
    expect(await node.undo({ dryRun: true })).toMatchObject({ undo_record_verified: true });
    expect(await node.undo({ eventId, dryRun: true })).toMatchObject({ undo_record_verified: null });
    await node.undo({ eventId });
    expect(await node.state()).toEqual({ changed: 'new', added: 2, null: null });
    expect(await verify(node)).toMatchObject({ ok: true });
  });
});
