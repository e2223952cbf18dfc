import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openTestStore, type TestStore, verify } from '../../setup/node/store.ts';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';

const oddDocuments: Record<string, unknown> = {
  plain: { a: 1, b: [1, 2, 3], c: { d: null } },
  'ünïcödé 🧵/with slash?and%': { text: 'line\nbreak\t"quoted" \\ \u0001 \u007f 🎉' },
  __proto__x: JSON.parse('{"__proto__":{"polluted":true},"constructor":1}'),
  numbers: [0, -0.5, 1e21, 1e-7, 5e-324, 1.7976931348623157e308, 0.1, 123456789012345],
  empty: { '': '', ' ': {}, list: [] },
  null: null,
  '...': true,
};

describe('backup and restore', () => {
  let database: TestDatabase;
  let node: TestStore;

  beforeEach(async () => {
    database = await createTestDatabase();
    node = await openTestStore(database.url);
  });

  afterEach(async () => {
    await node.close();
    await database.drop();
  });

  async function fill(): Promise<void> {
    for (const [name, value] of Object.entries(oddDocuments)) await node.put(name, value);
    await node.commit({ changes: [{ op: 'put', name: '__proto__', json: '{"own":1}' }] });
  }

  it('a fresh state is backed up as {} and restores', async () => {
    const backup = JSON.parse(await node.backup());
    expect(backup.state).toEqual({});
    expect(backup.audit_entries).toEqual([]);
    expect(backup.manifest).toMatchObject({ documents: 0, audit_entries: 0, audit_first: null, audit_verified: true });
    const report = await node.restore(JSON.stringify(backup));
    expect(report).toMatchObject({ verified: true, replaced_state: true, imported_audit_count: 0, revision: 1 });
    expect(await verify(node)).toMatchObject({ ok: true, entries: 1 });
  });

  it('dates documents by their change, not by the arrival of the body', async () => {
    await node.put('a', 1);
    const backup = await node.backup();
    const changed = async () => (await node.store.readDocument('a'))?.updatedAt ?? '';
    let between = '';
    async function* slowly() {
      yield Buffer.from('{"confirm":"restore","backup":');
      await expect.poll(() => node.store.observe().operations[0]?.bytes).toBeGreaterThan(0);
      await node.put('a', 2);
      between = await changed();
      yield Buffer.from(`${backup}}`);
    }
    const report = await node.restoreBody(Readable.from(slowly()));
    expect(await node.state()).toEqual({ a: 1 });
    const times = [between, await changed(), String(report.restored_at)];
    expect(times).toEqual(times.toSorted());
    expect(times[1]).not.toBe(between);
  });

  it('on the same database, later commits are undone in the state and stay in the trail', async () => {
    await fill();
    const before = await node.state();
    const backup = await node.backup();
    await node.put('plain', { changed: true });
    await node.put('new', 1);
    await node.commit({ action: 'document.delete', changes: [{ op: 'delete', name: 'null' }] });
    const live = await node.store.readHead();

    const plan = await node.restore(backup, { dry_run: true });
    expect(await node.store.readHead()).toEqual(live);
    const report = await node.restore(JSON.stringify(JSON.parse(backup)));

    expect(report.documents).toEqual({ added: 1, changed: 1, removed: 1, unchanged: 6 });
    expect(report.document_names).toEqual({ added: ['null'], changed: ['plain'], removed: ['new'], truncated: false });
    expect({ ...plan, dry_run: false, epoch: '', restored_at: null, event_id: null, audit: null }).toEqual({
      ...report,
      epoch: '',
      restored_at: null,
      event_id: null,
      audit: null,
    });
    expect(report.revision).toBe(live.revision + 1);
    expect(await node.state()).toEqual(before);
    expect(await verify(node)).toMatchObject({ ok: true, entries: live.head.seq + 2 });
    const after = await node.store.readHead();
    expect(after).toMatchObject({ revision: report.revision, epoch: report.epoch, documents: 8 });
    expect(after.epoch).not.toBe(live.epoch);
    expect(after.lastRestoreAt).toBe(report.restored_at);

    const again = await node.restore(backup);
    expect(again.documents).toEqual({ added: 0, changed: 0, removed: 0, unchanged: 8 });
  });

  it('truncate_audit removes the later entries, and the restore entry names the head that it replaced', async () => {
    await fill();
    const backup = await node.backup();
    await node.put('later', 1);
    await node.put('later', 2);
    const live = await node.store.readHead();
    const report = await node.restore(backup, { truncate_audit: true });
    expect(report).toMatchObject({ truncated_audit: true, replaced_audit_count: 2, revision: live.revision + 1 });
    const { entries, head } = await node.store.readAudit({ limit: 1, order: 'desc' });
    const entry = JSON.parse(entries[0]?.text ?? '');
    expect(head.seq).toBe(live.head.seq - 1);
    expect(entry).toMatchObject({ action: 'restore', seq: head.seq, revision: report.revision });
    expect(entry.restore).toMatchObject({ previous_head: live.head, replaced_entries: 2, truncated_audit: true });
    expect(await verify(node)).toMatchObject({ ok: true });
    await node.put('after', 1);
    expect(await verify(node)).toMatchObject({ ok: true, head: { seq: head.seq + 1 } });
  });

  it('an empty database adopts all entries unchanged, and an older one the missing entries', async () => {
    await fill();
    const early = await node.backup();
    await node.put('later', 'x');
    const late = await node.backup();
    const other = await createTestDatabase();
    const fresh = await openTestStore(other.url);
    try {
      const first = await fresh.restore(early);
      const entries = Object.keys(oddDocuments).length + 1;
      expect(first).toMatchObject({ imported_audit_count: entries, revision: entries + 1 });
      expect(await fresh.state()).toEqual(JSON.parse(early).state);
      expect(await verify(fresh)).toMatchObject({ ok: true, entries: entries + 1 });
      const adopted = await fresh.store.readAudit({ limit: 100, order: 'asc' });
      expect(adopted.entries.slice(0, entries).map((one) => JSON.parse(one.text))).toEqual(
        JSON.parse(early).audit_entries,
      );
      // Its own restore entry makes the trails diverge, so that the original's later entry is imported.
      expect((await fresh.restore(late)).audit).toMatchObject({ adopted: 0, imported: 1, parted_at: entries + 1 });
      expect(await fresh.state()).toEqual(JSON.parse(late).state);
      const own = await fresh.backup();
      expect(await fresh.restore(own)).toMatchObject({ documents: { unchanged: entries + 1 } });
    } finally {
      await fresh.close();
      await other.drop();
    }
  });

  it('the last entries alone restore on the same database', async () => {
    await fill();
    const backup = await node.backup({ auditLimit: 3 });
    expect(JSON.parse(backup).manifest).toMatchObject({
      audit_entries: 3,
      audit_verified: true,
      audit_first: { seq: 6 },
    });
    await node.put('later', 1);
    expect(await node.restore(backup)).toMatchObject({ verified: true, imported_audit_count: 0 });
    expect(await verify(node)).toMatchObject({ ok: true });
  });

  it('a backup without the trail restores the state', async () => {
    await fill();
    const before = await node.state();
    const backup = await node.backup({ includeAudit: false });
    expect(JSON.parse(backup)).not.toHaveProperty('audit_entries');
    await node.put('later', 1);
    await node.restore(backup);
    expect(await node.state()).toEqual(before);
    await expect(node.restore(backup, { truncate_audit: true })).rejects.toMatchObject({
      code: 'invalid_restore_request',
    });
  });
});
