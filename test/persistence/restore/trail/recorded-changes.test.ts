import { readFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../../../src/limits.ts';
import { depth, rounds } from '../../../setup/depth.ts';
import { expectTrailMakesState } from '../../../setup/node/fold.ts';
import { type Entry, trailOf } from '../../../setup/node/history.ts';
import { openNodes, type TestNodes } from '../../../setup/node/nodes.ts';
import type { TestStore } from '../../../setup/node/store.ts';

let nodes: TestNodes;
let node: TestStore;
beforeEach(async () => {
  nodes = await openNodes();
  node = nodes.node;
});
afterEach(() => nodes.close());

const remove = (name: string) => node.commit({ action: 'document.delete', changes: [{ op: 'delete', name }] });

/**
 * Returns the entries after the last restore or undo, without the values of their changes, and its count of changes.
 */
async function lastRecorded(action: 'restore' | 'undo') {
  const trail = await trailOf(node);
  const at = trail.findLastIndex((entry) => entry.action === action);
  const entries = trail.slice(at + 1);
  const changes = entries.flatMap((entry) => entry.changes as { op: string; name: string; revision?: number }[]);
  const own = trail[at] as Entry;
  return { own, entries, changes, counted: (own[action] as { recorded_changes: number }).recorded_changes };
}

describe('the changes that a restore writes into the trail', () => {
  it('are those of three documents if it changes three, and none if it is repeated', async () => {
    for (const name of ['added', 'changed', 'same']) await node.put(name, 'as in the backup');
    const backup = await node.backup();
    await remove('added');
    await node.put('changed', 'later');
    await node.put('removed', 1);
    const report = await node.restore(backup);

    const { own, entries, changes, counted } = await lastRecorded('restore');
    expect(counted).toBe(3);
    const { event_id, actor, request_id, revision, epoch, recorded_at, seq } = own;
    expect(entries).toEqual([
      {
        seq: seq + 1,
        hash: report.audit.head?.hash,
        event_id: expect.any(String),
        recorded_at,
        action: 'restore.changes',
        actor,
        request_id,
        revision,
        epoch,
        operation_event_id: event_id,
        changes: [
          { op: 'put', name: 'added', value: 'as in the backup', sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
          { op: 'put', name: 'changed', value: 'as in the backup', sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
          { op: 'delete', name: 'removed' },
        ],
      },
    ]);
    expect(entries[0]?.event_id).not.toBe(event_id);
    expect(changes).toHaveLength(3);
    await expectTrailMakesState(node);

    await node.restore(backup);
    expect(await lastRecorded('restore')).toMatchObject({ counted: 0, entries: [] });
    await node.undo();
    expect(await lastRecorded('undo')).toMatchObject({ counted: 0, entries: [] });
    await expectTrailMakesState(node);
  });

  it('are none if the restore adopts a trail that tells everything, whatever the trail has seen', async () => {
    const early = await node.backup();
    await node.commit({ changes: [{ op: 'put', name: 'a', json: '{"x":1}' }] });
    await node.commit({ action: 'document.patch', changes: [{ op: 'merge', name: 'a', json: '{"y":{"z":2}}' }] });
    await node.restore(early);
    await node.undo();
    await node.put('b', 1);
    const { rows } = await nodes.database.pool.query('select name, revision from loom_document order by name');
    const other = await openNodes();
    try {
      const backup = await node.backup();
      await other.node.restore(backup);
      const after = (await trailOf(other.node)).at(-1);
      expect(after).toMatchObject({ action: 'restore', restore: { recorded_changes: 0 } });
      // The documents keep the revisions that the trail gives them.
      const restored = await other.database.pool.query('select name, revision from loom_document order by name');
      expect(restored.rows).toEqual(rows);
      await expectTrailMakesState(other.node);
    } finally {
      await other.close();
    }
  });

  it('name the revision of a document that the restore leaves alone', async () => {
    const { backup, revision } = await diverge();
    await node.restore(backup, { replace_state: false });
    const { changes, own } = await lastRecorded('restore');
    expect(changes).toMatchObject([{ op: 'put', name: 'a', value: 'first', revision }]);
    expect(own.revision).not.toBe(revision);
    await expectTrailMakesState(node);
  });

  /** Leaves a document as it is in a state whose trail lacks the last entries of the returned backup. */
  async function diverge() {
    const { revision } = await node.put('a', 'first');
    const early = await node.backup();
    await node.put('a', 'second');
    const backup = await node.backup();
    await node.restore(early, { truncate_audit: true });
    await nodes.database.pool.query(`begin; set local loom.audit_rewrite = 'restore';
      delete from loom_audit where seq > 1; delete from loom_change where seq > 1;
      update loom_state set audit_seq = 1, audit_hash = (select hash from loom_audit where seq = 1); commit`);
    return { backup, revision };
  }

  it('fill entries of some MiB, and no entry exceeds its bound', async () => {
    const other = await openNodes(1, { maxDocumentBytes: limits.maxConfigurableDocumentBytes });
    node = other.node;
    try {
      const json = `"${'x'.repeat(limits.recordedChangesBytes / 4)}"`;
      for (const name of ['"', 'm', 'z']) await node.commit({ changes: [{ op: 'put', name, json }] });
      // Begins just before the second entry would.
      const largest = `"${'y'.repeat(rounds({ quick: limits.recordedChangesBytes, full: limits.maxStateBodyBytes - 1_024 }))}"`;
      await node.commit({ changes: [{ op: 'put', name: 'n', json: largest }] });
      const backup = await node.backup({ includeAudit: false });
      for (const name of ['"', 'm', 'n', 'z']) await remove(name);
      await node.restore(backup);
      const { entries, counted } = await lastRecorded('restore');
      expect(counted).toBe(4);
      expect(entries.map(({ changes }) => (changes as { name: string }[]).map((one) => one.name))).toEqual([
        ['"', 'm', 'n'],
        ['z'],
      ]);
      const { rows } = await other.database.pool.query<{ bytes: number }>(
        'select max(octet_length(entry::text))::int as bytes from loom_audit',
      );
      expect(rows[0]?.bytes).toBeLessThanOrEqual(limits.maxAuditEntryBytes);
      await expectTrailMakesState(node);
      if (depth === 'full') await expectRestorable(node);
    } finally {
      await other.close();
    }
  }, 600_000);

  /**
   * Asserts that a backup with such entries can be imported, that its import can be removed, and the removal undone.
   */
  async function expectRestorable(origin: TestStore): Promise<void> {
    const whole = await origin.backup();
    const importing = await openNodes();
    try {
      await importing.node.put('own', 1);
      const early = await importing.node.backup();
      expect(await importing.node.restore(whole)).toMatchObject({ imported_audit_count: 11, verified: true });
      await expectTrailMakesState(importing.node);
      await importing.node.restore(early, { truncate_audit: true });
      expect(await importing.node.undo()).toMatchObject({ imported_audit_count: 14 });
      await expectTrailMakesState(importing.node);
    } finally {
      await importing.close();
    }
  }
});

describe('a restore', () => {
  it.each(['schema-1', 'schema-2', 'schema-3', 'schema-4', 'schema-5'])(
    'makes the trail of an older node complete: %s',
    async (name) => {
      const text = await readFile(`test/fixtures/backups/${name}.json`, 'utf8');
      const options = { accept_state_key: JSON.parse(text).state_key };
      await node.restore(text, options);
      await expectTrailMakesState(node);
      await node.restore(text, options);
      expect(await lastRecorded('restore')).toMatchObject({ counted: 0 });
      await expectTrailMakesState(node);
    },
  );

  it('of the same state makes the trail complete, even if it changes no document and leaves the state alone', async () => {
    await node.put('a', 1);
    await node.put('b', 1);
    // A node of an earlier schema version has restored, and the trail does not say what.
    await asEarlierNode(`update loom_document set value = '2' where name = 'a'`);
    const { rows } = await nodes.database.pool.query('select name, op from loom_change order by seq, name');
    expect(rows).toEqual([
      { name: 'a', op: 'put' },
      { name: 'b', op: 'put' },
      { name: '', op: 'unknown' },
    ]);
    await node.restore(await node.backup(), { replace_state: false });
    const { changes } = await lastRecorded('restore');
    expect(changes.map((one) => one.name)).toEqual(['a', 'b']);
    await expectTrailMakesState(node);
    await node.restore(await node.backup());
    expect(await lastRecorded('restore')).toMatchObject({ counted: 0 });
  });

  /** Changes documents by `sql`, and appends the entry of a restore as a node of schema version 3 does. */
  async function asEarlierNode(sql: string): Promise<void> {
    await nodes.database.pool.query(`begin; ${sql};
      with entry as (
        select audit_seq + 1 as seq, gen_random_uuid() as event_id, audit_hash, jsonb_build_object('seq', audit_seq + 1, 'action', 'restore',
                 'recorded_at', '2026-01-01T00:00:00.000000Z', 'actor', 'admin', 'request_id', 'old', 'revision', revision + 1,
                 'epoch', epoch, 'changes', '[]'::jsonb, 'restore', '{"replaced_state": true}'::jsonb) as entry
          from loom_state
      ), whole as (
        select seq, event_id, audit_hash, entry || jsonb_build_object('event_id', event_id) as entry from entry
      ), appended as (
        insert into loom_audit (state_key, seq, event_id, recorded_at, action, entry, hash)
        select 'default', seq, event_id, '2026-01-01T00:00:00Z', 'restore', entry, loom_chain_hash(audit_hash, entry) from whole
        returning seq, hash
      )
      update loom_state set revision = revision + 1, audit_seq = seq, audit_hash = hash from appended; commit`);
  }

  it('into a scratch state follows the same rule, and dropping the state removes its index', async () => {
    await node.put('a', 1);
    const backup = await node.backup({ includeAudit: false });
    await nodes.database.pool.query(`insert into loom_change values ('', 'left', 1, 1, 'put', null)`);
    await node.restore(backup, { into_scratch: 'trial' });
    const { rows } = await nodes.database.pool.query<{ state_key: string }>(
      `select state_key from loom_state where scratch`,
    );
    const [scratch] = rows;
    const key = scratch?.state_key ?? '';
    await expectTrailMakesState({ pool: node.pool, stateKey: key });
    const trail = await nodes.database.pool.query('select action from loom_audit where state_key = $1 order by seq', [
      key,
    ]);
    expect(trail.rows).toEqual([{ action: 'restore' }, { action: 'restore.changes' }]);
    await node.store.dropScratch('trial');
    expect((await nodes.database.pool.query('select from loom_change where state_key = $1', [key])).rowCount).toBe(0);
    // A node of an earlier version drops a scratch state without its index.
    await nodes.database.pool.query(`insert into loom_change values ($1, 'left', 1, 1, 'put', null)`, [key]);
    await node.restore(backup, { into_scratch: 'trial' });
    await expectTrailMakesState({ pool: node.pool, stateKey: key });
  });
});
