import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openNodes, outcomeOf, type TestNodes } from '../../../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../../../setup/node/store.ts';

let nodes: TestNodes;
let node: TestStore;
beforeEach(async () => {
  nodes = await openNodes();
  node = nodes.node;
});
afterEach(() => nodes.close());

async function lastEntries(count: number): Promise<Record<string, unknown>[]> {
  const { entries } = await node.store.readAudit({ limit: count, order: 'desc' });
  return entries.map(({ text }) => JSON.parse(text) as Record<string, unknown>).reverse();
}

/** Makes the database look like another copy: a promoted standby, a recovery, or a dump in another database. */
const changeLineage = () => node.pool.query(`update loom_lineage set lineage = '1.00000001.5'`);

describe('on another copy of the database', () => {
  it('the first commit starts a new epoch, with an entry and a revision of its own', async () => {
    const { epoch } = await node.put('a', 1);
    expect(await node.store.observeHead()).toMatchObject({ epochChanges: 0, lastEpochChange: null });
    await changeLineage();
    const receipt = await node.put('b', 1);
    expect(receipt).toMatchObject({ revision: 3 });
    expect(receipt.epoch).not.toBe(epoch);
    expect(receipt.epoch).toMatch(/^[0-9A-Za-z]{10}$/);
    const [change, commit] = await lastEntries(2);
    expect(change).toMatchObject({
      action: 'epoch',
      actor: 'loom',
      revision: 2,
      epoch: receipt.epoch,
      changes: [],
      epoch_change: {
        reason: 'lineage',
        previous_epoch: epoch,
        previous_revision: 1,
        previous_lineage: '1.00000001.5',
      },
    });
    expect(commit).toMatchObject({ action: 'document.put', epoch: receipt.epoch });
    expect(await node.store.observeHead()).toMatchObject({
      epochChanges: 1,
      lastEpochChange: { reason: 'lineage', at: change?.recorded_at },
    });
    expect(await node.put('c', 1)).toMatchObject({ epoch: receipt.epoch, revision: 4 });
    expect(await verify(node)).toMatchObject({ ok: true, entries: 4 });
    // The backup is complete, and restores elsewhere.
    const other = await openNodes();
    expect(await other.node.restore(await node.backup())).toMatchObject({ verified: true });
    await other.close();
  });

  it('an entity tag of a lost commit matches nothing', async () => {
    const { epoch } = await node.put('a', 1);
    await changeLineage();
    // A lost commit had revision 2, and so has the next one.
    const lost = `${epoch}.2`;
    const write = (document: string | null) =>
      node.commit({ precondition: { document, ifMatch: [lost] }, changes: [{ op: 'put', name: 'a', json: '2' }] });
    expect(await outcomeOf(write('a'))).toBe('precondition_failed');
    expect(await outcomeOf(write(null))).toBe('precondition_failed');
    await node.put('a', 3);
    const found = await node.store.readDocument('a');
    expect(`${found?.epoch}.${found?.revision}`).not.toBe(lost);
  });

  it.each([{ replaceState: true }, { replaceState: false }])(
    'a restore starts a new epoch, too: $replaceState',
    async ({ replaceState }) => {
      await node.put('a', 1);
      const backup = await node.backup();
      const { epoch } = await node.put('b', 1);
      await changeLineage();
      const plan = await node.restore(backup, { replace_state: replaceState, dry_run: true });
      expect(await node.store.observeHead()).toMatchObject({ revision: 2, epoch, epochChanges: 0 });
      // The restore begins with the entry of the new epoch, so its plan counts it.
      expect(plan.based_on_revision).toBe(3);
      const planned = { replace_state: replaceState, expect_revision: plan.based_on_revision };
      const report = await node.restore(backup, planned);
      expect(report.epoch).not.toBe(epoch);
      expect(report).toMatchObject({ based_on_revision: 3, revision: 4 });
      // A restore that replaces the state records the document that it removes.
      const expected = ['epoch', 'restore', ...(replaceState ? ['restore.changes'] : [])];
      expect((await lastEntries(expected.length)).map(({ action }) => action)).toEqual(expected);
      await node.put('c', 1);
      expect(await node.store.observeHead()).toMatchObject({ revision: 5, epochChanges: 1 });
      expect(await verify(node)).toMatchObject({ ok: true });
      await changeLineage();
      const undoPlan = await node.undo({ dryRun: true });
      expect(undoPlan.based_on_revision).toBe(6);
      await node.undo({ expectRevision: undoPlan.based_on_revision });
      expect(await verify(node)).toMatchObject({ ok: true });
    },
  );

  it('a plan counts the entries that its restore removes, with the entry of the new epoch', async () => {
    await node.put('a', 1);
    const backup = await node.backup();
    await node.put('b', 1);
    await changeLineage();
    const plan = await node.restore(backup, { truncate_audit: true, dry_run: true });
    expect(plan.audit).toMatchObject({ replaced: 2 });
    // A commit does not wait for a plan, and the epoch of the plan is gone.
    expect(await node.put('c', 1)).toMatchObject({ revision: 4 });
    expect((await lastEntries(2)).map(({ action }) => action)).toEqual(['epoch', 'document.put']);
    const late = node.restore(backup, { truncate_audit: true, expect_revision: plan.based_on_revision });
    expect(await outcomeOf(late)).toBe('revision_mismatch');
  });

  it('a plan that was made before does not apply', async () => {
    await node.put('a', 1);
    const backup = await node.backup();
    await changeLineage();
    expect(await outcomeOf(node.restore(backup, { expect_revision: 1 }))).toBe('revision_mismatch');
    expect(await node.store.observeHead()).toMatchObject({ revision: 1, epochChanges: 0 });
  });
});

describe('with an older copy of the data in the same place', () => {
  /** Puts back the rows of an earlier time, as a copy of the data directory does. */
  async function putBack(revision: number): Promise<void> {
    await node.pool.query(`set session_replication_role = replica; delete from loom_audit where seq > ${revision};`);
    await node.pool.query(`delete from loom_document where revision > ${revision}`);
    await node.pool.query(`delete from loom_change where seq > ${revision}`);
    await node.pool.query(
      `update loom_state set revision = ${revision}, audit_seq = ${revision},
              audit_hash = (select hash from loom_audit where seq = ${revision}),
              documents = (select count(*) from loom_document), bytes = (select sum(bytes) from loom_document)`,
    );
  }

  it('a node that has seen a higher revision starts a new epoch', async () => {
    for (const name of ['a', 'b', 'c', 'd']) await node.put(name, 1);
    const { epoch } = await node.store.readHead();
    await putBack(2);
    const receipt = await node.put('e', 1);
    expect(receipt.revision).toBe(4);
    expect(receipt.epoch).not.toBe(epoch);
    expect((await lastEntries(2))[0]).toMatchObject({
      action: 'epoch',
      epoch_change: { reason: 'revision', previous_epoch: epoch, previous_revision: 2, seen_revision: 4 },
    });
    expect(await node.put('f', 1)).toMatchObject({ epoch: receipt.epoch, revision: 5 });
    expect(await verify(node)).toMatchObject({ ok: true, entries: 5 });
  });

  it('a node that has only read starts one, too', async () => {
    for (const name of ['a', 'b', 'c']) await node.put(name, 1);
    const other = await openTestStore(nodes.database.url);
    try {
      await other.store.readDocument('c');
      const { epoch } = await node.store.readHead();
      await putBack(2);
      expect((await other.put('e', 1)).epoch).not.toBe(epoch);
    } finally {
      await other.close();
    }
  });
});

it('a new database has no epoch change: the first commit records where it was made', async () => {
  await node.put('a', 1);
  const { rows } = await node.pool.query('select lineage, epoch_changes from loom_lineage');
  expect(rows).toEqual([{ lineage: expect.stringMatching(/^[0-9-]+\.[0-9A-F]{8}\.[0-9]+$/), epoch_changes: 0 }]);
});
