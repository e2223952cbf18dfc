import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../../../src/limits.ts';
import { type ParsedBackup, relink, seal } from '../../../setup/backup/chain.ts';
import { append, backupOf, put, truncate } from '../../../setup/backup/trails.ts';
import { copyState } from '../../../setup/node/copy-state.ts';
import { openNodes, type TestNodes } from '../../../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../../../setup/node/store.ts';
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../../../setup/server/database.ts';
import { digestTables } from '../../../setup/server/digest.ts';
import { applyMigrations } from '../../../setup/server/migrations.ts';

let nodes: TestNodes;
let other: TestDatabase;
let fresh: TestStore;
beforeEach(async () => {
  nodes = await openNodes();
  other = await createTestDatabase();
  fresh = await openTestStore(other.url);
});
afterEach(async () => {
  await fresh.close();
  await other.drop();
  await nodes.close();
});

const copyDatabase = () => copyState(nodes.database.pool, other.pool);

async function entriesOf(node: TestStore): Promise<string[]> {
  return (await node.store.readAudit({ limit: 1_000, order: 'asc' })).entries.map(({ text }) => text);
}

describe('an older database whose chain is a prefix of the backup’s', () => {
  it.each([{ auditLimit: undefined }, { auditLimit: 4 }, { auditLimit: 3 }])(
    'adopts only the entries that it lacks, from the last $auditLimit',
    async ({ auditLimit }) => {
      for (let index = 0; index < 5; index += 1) await nodes.node.put(`early-${index % 3}`, index);
      await copyDatabase();
      await nodes.node.commit({ idempotencyKey: 'key', changes: [{ op: 'put', name: 'late', json: '1' }] });
      await nodes.node.put('early-0', 'changed');
      await nodes.node.commit({ action: 'document.delete', changes: [{ op: 'delete', name: 'early-1' }] });
      const backup = await nodes.node.backup(auditLimit === undefined ? {} : { auditLimit });
      expect(await verify(fresh)).toMatchObject({ ok: true, entries: 5 });

      const report = await fresh.restore(backup);
      expect(report).toMatchObject({ imported_audit_count: 3, replaced_audit_count: 0, revision: 9 });
      expect(report.documents).toEqual({ added: 1, changed: 1, removed: 1, unchanged: 1 });
      expect(await fresh.state()).toEqual(await nodes.node.state());
      expect((await entriesOf(fresh)).slice(0, 8)).toEqual(await entriesOf(nodes.node));
      expect(await verify(fresh)).toMatchObject({ ok: true, entries: 9 });
      // An adopted idempotency key is not free, but its answer had an entity tag of another epoch.
      const again = fresh.commit({ idempotencyKey: 'key', changes: [{ op: 'put', name: 'late', json: '1' }] });
      await expect(again).rejects.toMatchObject({ code: 'idempotency_key_outdated' });
    },
  );

  it('imports the entries after a gap', async () => {
    for (let index = 0; index < 3; index += 1) await nodes.node.put('a', index);
    await copyDatabase();
    for (let index = 0; index < 5; index += 1) await nodes.node.put('a', index);
    const backup = await nodes.node.backup({ auditLimit: 4 });
    const report = await fresh.restore(backup);
    expect(report.audit).toMatchObject({ adopted: 0, imported: 4, replaced: 0, parted_at: 4 });
    expect(await verify(fresh)).toMatchObject({ ok: true, entries: 3 + 4 + 2 });
  });

  it('imports the original of an edited entry, and no other', async () => {
    for (let index = 0; index < 3; index += 1) await nodes.node.put('a', index);
    await copyDatabase();
    await other.pool.query(`begin; set local session_replication_role = replica;
      update loom_audit set entry = entry || '{"actor":"x"}' where seq = 2; commit`);
    const backup: ParsedBackup = JSON.parse(await nodes.node.backup());
    const report = await fresh.restore(JSON.stringify(backup));
    expect(report.audit).toMatchObject({ adopted: 0, imported: 1, parted_at: 2 });
    const imported: unknown = JSON.parse((await entriesOf(fresh))[3] ?? '');
    expect(imported).toMatchObject({
      action: 'audit.import',
      import: { position: 2, original: backup.audit_entries[1] },
    });
    // A restore does not hide the edit: verification still finds it.
    expect(await verify(fresh)).toMatchObject({ ok: false, first_bad_seq: 2 });
  });
});

describe('a backup that is forged with correct digests', () => {
  const forgeries: [string, Record<string, unknown>, string][] = [
    ['a day that does not exist', { recorded_at: '2024-02-30T00:00:00.000000Z' }, 'recorded_at'],
    ['the year 0', { recorded_at: '0000-01-01T00:00:00.000000Z' }, 'recorded_at'],
    ['month 0', { recorded_at: '2024-00-01T00:00:00.000000Z' }, 'recorded_at'],
    ['an event id of another form', { event_id: 'x' }, 'event_id'],
    ['an action that is not a string', { action: 1 }, 'action'],
    ['a revision that is not a number', { revision: 'x' }, 'revision'],
    ['an epoch that no header can have', { epoch: 'a\r\nset-cookie: x' }, 'epoch'],
    ['an idempotency key that is too long for an index', { idempotency_key: 'k'.repeat(10_000) }, 'idempotency_key'],
  ];

  it.each(forgeries)('is refused for its entry with %s', async (_what, members, member) => {
    await nodes.node.put('a', 1);
    await nodes.node.put('a', 2);
    const backup: ParsedBackup = JSON.parse(await nodes.node.backup());
    Object.assign(backup.audit_entries[1] ?? {}, members);
    const before = await digestTables(other.pool);
    await expect(fresh.restore(JSON.stringify(relink(backup)))).rejects.toMatchObject({
      code: 'backup_malformed',
      place: { pointer: `/backup/audit_entries/1/${member}`, seq: 2 },
    });
    expect(await digestTables(other.pool)).toBe(before);
  });

  it('is refused for a duplicate event id or idempotency key', async () => {
    await nodes.node.commit({ idempotencyKey: 'key', changes: [{ op: 'put', name: 'a', json: '1' }] });
    await nodes.node.put('a', 2);
    for (const member of ['event_id', 'idempotency_key']) {
      const backup: ParsedBackup = JSON.parse(await nodes.node.backup());
      Object.assign(backup.audit_entries[1] ?? {}, { [member]: backup.audit_entries[0]?.[member] });
      await expect(fresh.restore(JSON.stringify(relink(backup)))).rejects.toMatchObject({
        code: 'backup_malformed',
        place: { seq: 2 },
      });
    }
  });

  it('is refused for a partial trail that repeats earlier entries of the live trail', async () => {
    await nodes.node.commit({ idempotencyKey: 'key', changes: [{ op: 'put', name: 'a', json: '1' }] });
    await copyDatabase();
    await nodes.node.put('a', 2);
    const { audit_entries: all }: ParsedBackup = JSON.parse(await nodes.node.backup());
    for (const member of ['event_id', 'idempotency_key']) {
      const backup: ParsedBackup = JSON.parse(await nodes.node.backup({ auditLimit: 1 }));
      Object.assign(backup.audit_entries[0] ?? {}, { [member]: all[0]?.[member] });
      const error = { code: 'backup_malformed', place: { seq: 2, pointer: `/backup/audit_entries/0/${member}` } };
      for (const dry_run of [true, false]) {
        await expect(fresh.restore(JSON.stringify(relink(backup)), { dry_run })).rejects.toMatchObject(error);
      }
    }
  });

  it('leaves a state whose own backups restore, whatever revision it has', async () => {
    await nodes.node.put('a', 1);
    const backup: ParsedBackup = JSON.parse(await nodes.node.backup());
    backup.revision = limits.maxBackupRevision;
    await fresh.restore(JSON.stringify(seal(backup)));
    expect(await fresh.restore(await fresh.backup())).toMatchObject({ revision: limits.maxRestoredRevision + 2 });
  });

  it('leaves nothing that a later backup cannot contain', async () => {
    const nested: unknown = JSON.parse(
      '['.repeat(limits.maxAuditEntryDepth - 3) + ']'.repeat(limits.maxAuditEntryDepth - 3),
    );
    const trail = put([], 1, 2);
    const honest = truncate(put(trail, 3), 2);
    const forged = append(honest, { action: 'restore', restore: { replaced_entries: 1, previous_head: nested } });
    await fresh.restore(backupOf(forged));
    await fresh.restore(backupOf(trail), { truncate_audit: true });
    const { restore } = JSON.parse((await entriesOf(fresh)).at(-1) ?? '');
    expect(restore.replaced_restores).toMatchObject([{ seq: 3, request_id: 'test', replaced_entries: 1 }]);
    expect(await fresh.restore(await fresh.backup())).toMatchObject({ verified: true });
  });

  it('lists removed restores in their order, even if the clock was set back between them', async () => {
    const { node } = nodes;
    const backup = await node.backup();
    for (const recorded_at of ['2099-01-01T00:00:00.000000Z', '2001-01-01T00:00:00.000000Z', undefined]) {
      await node.put('a', 1);
      await node.restore(backup, { truncate_audit: true });
      if (recorded_at === undefined) continue;
      await node.pool.query(
        `set session_replication_role = replica;
         update loom_audit set entry = entry || '${JSON.stringify({ recorded_at })}' where action = 'restore'`,
      );
    }
    const { restore } = JSON.parse((await entriesOf(node)).at(-1) ?? '');
    expect(restore.replaced_restores.map((one: { recorded_at: string }) => one.recorded_at.slice(0, 4))).toEqual([
      '2001',
      '2099',
    ]);
  });

  it('is refused for digits of another script, whatever the locale of the database', async () => {
    await nodes.node.put('a', 1);
    const backup: ParsedBackup = JSON.parse(await nodes.node.backup());
    Object.assign(backup.audit_entries[0] ?? {}, { recorded_at: '\u0662\u0660\u0662\u0664-01-01T00:00:00.000000Z' });
    const icu = await createEmptyDatabase(`locale_provider icu icu_locale 'und' locale 'C'`);
    await applyMigrations(icu.url);
    const node = await openTestStore(icu.url);
    try {
      await expect(node.restore(JSON.stringify(relink(backup)))).rejects.toMatchObject({
        code: 'backup_malformed',
        place: { pointer: '/backup/audit_entries/0/recorded_at' },
      });
    } finally {
      await node.close();
      await icu.drop();
    }
  });

  it('is refused for a revision that cannot grow, and restores with its own revision', async () => {
    await nodes.node.put('a', 1);
    const backup: ParsedBackup = JSON.parse(await nodes.node.backup());
    const forged = relink({ ...structuredClone(backup), revision: Number.MAX_SAFE_INTEGER });
    await expect(fresh.restore(JSON.stringify(forged))).rejects.toMatchObject({
      code: 'backup_malformed',
      place: { pointer: '/backup/revision' },
    });
    expect(relink(structuredClone(backup))).toEqual(backup);
    await fresh.restore(JSON.stringify(relink(backup)));
    expect(await verify(fresh)).toMatchObject({ ok: true, entries: 2 });
  });
});
