import { readFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { UndoOptions } from '../../../../src/domain/request.ts';
import { limits } from '../../../../src/limits.ts';
import { importedOf, trailOf } from '../../../setup/node/history.ts';
import { openNodes, type TestNodes } from '../../../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../../../setup/node/store.ts';
import { createTestDatabase } from '../../../setup/server/database.ts';
import { digestTables } from '../../../setup/server/digest.ts';
import { verifyBySql } from '../../../setup/server/verify-sql.ts';

let nodes: TestNodes;
let node: TestStore;
beforeEach(async () => {
  nodes = await openNodes();
  node = nodes.node;
});
afterEach(() => nodes.close());

const remove = (name: string) => node.commit({ action: 'document.delete', changes: [{ op: 'delete', name }] });

/** Takes a backup, then adds, changes and removes a document, and leaves one unchanged. */
async function fill(): Promise<string> {
  await node.put('same', { kept: true });
  await node.put('changed', 'as in the backup');
  await node.put('removed', [1]);
  const backup = await node.backup();
  await node.put('changed', 'later');
  await node.put('added', 2);
  await remove('removed');
  return backup;
}

async function expectSound(): Promise<void> {
  expect(await verify(node)).toMatchObject({ ok: true });
  expect(await verifyBySql(nodes.database.pool)).toMatchObject({ ok: true });
}

describe('an undo', () => {
  it('puts the documents back, and another undo undoes that', async () => {
    const backup = await fill();
    const before = await node.state();
    const restored = await node.restore(backup);
    const after = await node.state();
    const { head, epoch } = await node.store.readHead();

    const undone = await node.undo();
    expect(await node.state()).toEqual(before);
    expect(undone).toMatchObject({
      dry_run: false,
      undone: [{ event_id: restored.event_id, kind: 'restore', revision: restored.revision }],
      replaced_state: true,
      revision: restored.revision + 1,
      based_on_revision: restored.revision,
      documents: { added: 1, changed: 1, removed: 1, unchanged: 1 },
      document_names: { added: ['added'], changed: ['changed'], removed: ['removed'], truncated: false },
      imported_audit_count: 0,
      audit: { previous_head: head, imported: 0, head: { seq: head.seq + 2 } },
      warnings: [],
    });
    expect(undone.epoch).not.toBe(epoch);
    expect(await node.store.readHead()).toMatchObject({ documents: 3, revision: undone.revision, epoch: undone.epoch });

    expect((await node.undo()).undone).toMatchObject([{ event_id: undone.event_id, kind: 'undo' }]);
    expect(await node.state()).toEqual(after);
    await node.undo();
    expect(await node.state()).toEqual(before);
    await expectSound();
    const operations = ['restore', 'undo', 'undo', 'undo'].flatMap((action) => [action, `${action}.changes`]);
    expect((await trailOf(node)).slice(-8).map(({ action }) => action)).toEqual(operations);
  });

  it('brings back the entries that a restore removed, and the trail says restore, then undo', async () => {
    const backup = await fill();
    const taken = (await trailOf(node)).slice(3);
    await node.restore(backup, { truncate_audit: true });
    expect((await trailOf(node)).map(({ action }) => action)).toEqual([...Array(3).fill('document.put'), 'restore']);

    const undone = await node.undo();
    expect(undone).toMatchObject({ imported_audit_count: 3, audit: { imported: 3 } });
    const trail = await trailOf(node);
    expect(importedOf(trail)).toEqual(taken);
    expect(trail.slice(3).map(({ action }) => action)).toEqual([
      'restore',
      ...Array(3).fill('audit.import'),
      'undo',
      'undo.changes',
    ]);
    expect(trail.at(-2)).toMatchObject({ undo: { imported_entries: 3, undone: [{ kind: 'restore' }] } });
    await expectSound();

    // Two more undos do not import them again.
    await node.undo();
    await node.undo();
    expect(importedOf(await trailOf(node))).toEqual(taken);
    await expectSound();
  });

  it('may bring back imports, whose originals are not imported again', async () => {
    const early = await fill();
    const other = await openNodes();
    await other.node.put('theirs', 1);
    await other.node.put('theirs', 2);
    const foreign = await other.node.backup();
    await other.close();
    expect(await node.restore(foreign)).toMatchObject({ imported_audit_count: 2 });
    for (let round = 0; round < 2; round += 1) {
      await node.restore(early, { truncate_audit: true });
      await node.undo();
    }
    expect(await node.restore(foreign)).toMatchObject({ imported_audit_count: 0 });
    await expectSound();
  });

  it('keeps later commits, except to the documents that the restore had replaced', async () => {
    const backup = await fill();
    await node.restore(backup);
    await node.put('since', 'new');
    await node.put('same', 'changed since');
    await node.put('changed', 'changed since');
    const plan = await node.undo({ dryRun: true });
    expect(plan.warnings).toEqual([expect.stringMatching(/later commit has changed.*: 1\.$/)]);
    await node.undo();
    expect(await node.state()).toEqual({ since: 'new', same: 'changed since', changed: 'later', added: 2 });
    // Another undo reverts that, too.
    await node.undo();
    expect(await node.state()).toMatchObject({ changed: 'changed since', since: 'new' });
    await expectSound();
  });

  it('reverts several restores at once, up to the named one', async () => {
    const backup = await fill();
    const before = await node.state();
    const first = await node.restore(backup);
    await node.put('changed', 'between');
    const second = await node.restore(backup, { truncate_audit: true });
    await node.put('after', 1);
    const undone = await node.undo({ eventId: first.event_id ?? '' });
    expect(undone.undone.map((one) => one.event_id)).toEqual([second.event_id, first.event_id]);
    expect(await node.state()).toEqual({ ...before, after: 1 });
    await expectSound();
  });

  it('of a restore that replaced nothing changes nothing, and adds its entry to the trail', async () => {
    const backup = await fill();
    const [before, { epoch }] = [await node.state(), await node.store.readHead()];
    await node.restore(backup, { replace_state: false });
    expect(await node.undo()).toMatchObject({
      replaced_state: false,
      epoch,
      documents: { added: 0, changed: 0, removed: 0, unchanged: 3 },
    });
    expect(await node.state()).toEqual(before);
    await expectSound();
  });

  it('as a dry run changes nothing', async () => {
    await node.restore(await fill());
    const before = await digestTables(nodes.database.pool);
    expect(await node.undo({ dryRun: true })).toMatchObject({
      dry_run: true,
      undone_at: null,
      event_id: null,
      epoch: null,
    });
    expect(await digestTables(nodes.database.pool)).toBe(before);
  });

  it('leads to a state whose own backup restores elsewhere, with every entry', async () => {
    const backup = await fill();
    await node.restore(backup, { truncate_audit: true });
    await node.undo();
    const own = await node.backup();
    const other = await createTestDatabase();
    const fresh = await openTestStore(other.url);
    try {
      await fresh.restore(own);
      expect(await fresh.state()).toEqual(await node.state());
      expect((await trailOf(fresh)).slice(0, -1)).toEqual(await trailOf(node));
    } finally {
      await fresh.close();
      await other.drop();
    }
  });
});

describe('an undo is refused', () => {
  async function expectRefused(request: Partial<UndoOptions>, error: Record<string, unknown>): Promise<void> {
    const before = await digestTables(nodes.database.pool);
    await expect(node.undo(request)).rejects.toMatchObject(error);
    expect(await digestTables(nodes.database.pool)).toBe(before);
  }

  it('before there was any restore', async () => {
    await node.put('a', 1);
    await expectRefused({}, { code: 'nothing_to_undo' });
    await node.restore(await node.backup(), { into_scratch: 'trial' });
    await expectRefused({}, { code: 'nothing_to_undo' });
  });

  it('of a restore that has no undo record', async () => {
    await node.restore(await fill());
    await expectRefused(
      { eventId: '00000000-0000-4000-8000-000000000000' },
      {
        code: 'nothing_to_undo',
        place: { pointer: '/event_id' },
      },
    );
  });

  it('if a commit came after the dry run', async () => {
    await node.restore(await fill());
    const plan = await node.undo({ dryRun: true });
    await node.put('since', 1);
    await expectRefused(
      { expectRevision: plan.based_on_revision },
      {
        code: 'revision_mismatch',
        place: { pointer: '/expect_revision' },
      },
    );
  });

  it('after a restore by a node of version 1, which kept nothing', async () => {
    await node.restore(await fill());
    await nodes.database.pool.query('update loom_state set last_restore_at = now()');
    await expectRefused({}, { code: 'nothing_to_undo', message: expect.stringContaining('older version') });
  });

  it('while a restore is in flight, and reports when it began', async () => {
    const whole = JSON.stringify({ confirm: 'restore', dry_run: true, backup: JSON.parse(await fill()) });
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    async function* slowly() {
      yield Buffer.from(whole.slice(0, 50));
      await held;
      yield Buffer.from(whole.slice(50));
    }
    const slow = node.restoreBody(Readable.from(slowly()));
    await expect.poll(() => node.store.observe().operations[0]?.bytes).toBe(50);
    const { rows } = await nodes.database.pool.query('select now() as now');
    const refused = await node.undo().catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: 'restore_in_progress', since: expect.stringMatching(/Z$/) });
    expect(new Date(String(Reflect.get(Object(refused), 'since'))).getTime()).toBeLessThanOrEqual(
      rows[0].now.getTime(),
    );
    release();
    await slow;
  });
});

describe('an undo record', () => {
  it('is not evicted by repeated restores, and a warning names its event id', async () => {
    for (const truncate_audit of [false, true]) {
      const backup = await fill();
      const before = await node.state();
      const first = await node.restore(backup, { truncate_audit });
      for (let again = 0; again < 5; again += 1) await node.restore(backup, { truncate_audit });
      const plan = await node.undo({ dryRun: true });
      if (!truncate_audit) expect(plan.warnings).toEqual([expect.stringContaining(`its event id ${first.event_id}.`)]);
      const undone = await node.undo({ eventId: first.event_id ?? '' });
      expect(undone.undone).toHaveLength(6);
      expect(await node.state()).toEqual(before);
      await expectSound();
    }
  });

  it('can be deleted with the statements of docs/restore.md, and then nothing can be undone', async () => {
    await node.restore(await fill(), { truncate_audit: true });
    const page = await readFile(new URL('../../../../docs/restore.md', import.meta.url), 'utf8');
    await nodes.database.pool.query(/```sql\n([\s\S]*?)```/.exec(page)?.[1] ?? 'the page has no statements');
    expect(await node.store.readUndoRecords()).toEqual([]);
    await expect(node.undo()).rejects.toMatchObject({ code: 'nothing_to_undo' });
    await node.restore(await node.backup());
    await expectSound();
  });

  it('of a restore that replaced nothing counts against a limit of its own', async () => {
    await node.put('a', 1);
    const backup = await node.backup();
    await node.put('a', 2);
    const first = await node.restore(backup);
    for (let again = 0; again < limits.maxEmptyUndoRecords + 5; again += 1) await node.restore(backup);
    const kept = await node.store.readUndoRecords();
    expect(kept.map((one) => one.substantial)).toEqual([...Array(limits.maxEmptyUndoRecords).fill(false), true]);
    expect(kept.at(-1)?.event_id).toBe(first.event_id);
    const plan = await node.undo({ eventId: kept[0]?.event_id ?? '', dryRun: true });
    expect(plan.warnings).toEqual([expect.stringContaining('changes no document')]);
  });

  it('exists for each of the last three restores and undos, and has only what they replaced', async () => {
    const backup = await fill();
    for (let index = 0; index < limits.maxUndoRecords + 2; index += 1) {
      await node.put('changed', `round ${index}`);
      await node.restore(backup, { truncate_audit: true });
    }
    const kept = await node.store.readUndoRecords();
    expect(kept.map(({ kind, documents, audit_entries }) => [kind, documents, audit_entries])).toEqual(
      Array.from({ length: limits.maxUndoRecords }, () => ['restore', 1, 2]),
    );
    expect(kept.map((one) => one.revision)).toEqual(kept.map((one) => one.revision).toSorted((a, b) => b - a));
    for (const one of kept) expect(one.bytes).toBeGreaterThan(0);
    for (const table of ['loom_snapshot', 'loom_snapshot_document', 'loom_snapshot_audit']) {
      const { rows } = await nodes.database.pool.query(`select distinct revision::int from ${table}`);
      expect(rows.length, table).toBe(limits.maxUndoRecords);
    }
    await node.undo({ eventId: kept.at(-1)?.event_id ?? '' });
    expect(await node.state()).toMatchObject({ changed: 'round 2' });
    await expectSound();
  });
});
