import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../../src/limits.ts';
import type { ParsedBackup } from '../../setup/backup/chain.ts';
import { without } from '../../setup/backup/spoil.ts';
import { type Entry, importedOf, trailOf } from '../../setup/node/history.ts';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';
import { type TestStore, verify } from '../../setup/node/store.ts';
import { digestTables } from '../../setup/server/digest.ts';

let nodes: TestNodes;
let node: TestStore;
beforeEach(async () => {
  nodes = await openNodes();
  node = nodes.node;
});
afterEach(() => nodes.close());

/** A backup in the format of a public LOOM node. */
function publicBackup() {
  const entry = (number: number) => ({
    event_id: `event-${number}`,
    timestamp: `2026-01-0${number}T00:00:00Z`,
    action: 'world.update',
    payload: { number, nested: [{ deep: null }] },
    prev_hash: number === 1 ? '' : `hash-${number - 1}`,
    hash: `hash-${number}`,
  });
  return {
    loom_backup_version: 1,
    backend: 'postgres',
    state_key: 'default',
    schema_version: 1,
    exported_at: '2026-01-09T00:00:00.000Z',
    state: { users: { ada: 1 }, events: [1, 2, 3] } as unknown,
    state_updated_at: '2026-01-08T00:00:00.000Z',
    audit_entries: [entry(1), entry(2), entry(3)],
  };
}

const restore = (backup: unknown, options: Record<string, unknown> = {}) =>
  node.restore(JSON.stringify(backup), options);

async function expectRefused(backup: unknown, error: Record<string, unknown>, options = {}): Promise<void> {
  const before = await digestTables(nodes.database.pool);
  await expect(restore(backup, options)).rejects.toMatchObject(error);
  expect(await digestTables(nodes.database.pool)).toBe(before);
}

async function ownBackup(): Promise<ParsedBackup> {
  await node.put('a', 1);
  await node.put('b', 2);
  return JSON.parse(await node.backup());
}

describe('the backup of a public LOOM node', () => {
  it('is accepted without an option, is reported as unverified, and has its entries imported in order', async () => {
    await node.put('own', 1);
    const backup = publicBackup();
    const report = await restore(backup);
    expect(report).toMatchObject({
      verified: false,
      replaced_state: true,
      imported_audit_count: 3,
      revision: 2,
      documents: { added: 2, changed: 0, removed: 1, unchanged: 0 },
      audit: { adopted: 0, imported: 3, replaced: 0, parted_at: null, backup_head: null },
      warnings: [expect.stringContaining('no manifest')],
    });
    expect(await node.state()).toEqual(backup.state);
    const trail = await trailOf(node);
    expect(importedOf(trail)).toEqual(backup.audit_entries);
    expect(trail.map(({ action }) => action)).toEqual([
      'document.put',
      ...Array(3).fill('audit.import'),
      'restore',
      'restore.changes',
    ]);
    expect(trail[1]).toMatchObject({
      import: { verified: false, position: 1, state_key: 'default', instance_id: null },
    });
    expect(trail.at(-2)).toMatchObject({ restore: { verified: false, backup: { head: null, sha256: null } } });
    expect(await verify(node)).toMatchObject({ ok: true, entries: 6 });
  });

  it.each([1, 3, 99])(
    'is accepted with schema_version %i, which counts the schemas of that program',
    async (version) => {
      const report = await restore({ ...publicBackup(), schema_version: version });
      expect(report).toMatchObject({ verified: false, imported_audit_count: 3 });
    },
  );

  it('imports nothing the second time, and only the new entries when it has grown', async () => {
    const backup = publicBackup();
    await restore(backup);
    expect(await restore(backup)).toMatchObject({ imported_audit_count: 0, documents: { unchanged: 2 } });
    const grown = {
      ...backup,
      audit_entries: [...backup.audit_entries, { ...backup.audit_entries[2], event_id: 'event-4' }],
    };
    expect(await restore(grown)).toMatchObject({ imported_audit_count: 1 });
    expect(importedOf(await trailOf(node))).toEqual(grown.audit_entries);
  });

  it('is accepted with a warning about the entry at which its own chain forks', async () => {
    const backup = publicBackup();
    Object.assign(backup.audit_entries[2] ?? {}, { prev_hash: 'hash-1' });
    expect((await restore(backup)).warnings).toContainEqual(
      expect.stringContaining('entry 3 of the backup is not linked'),
    );
  });

  it('with the null state of a fresh node leaves the documents as they are', async () => {
    await node.put('own', 1);
    const report = await restore({ ...publicBackup(), state: null });
    expect(report).toMatchObject({ replaced_state: false, imported_audit_count: 3 });
    expect(report.warnings).toContainEqual(expect.stringContaining('no state'));
    expect(await node.state()).toEqual({ own: 1 });
    await expectRefused({ ...publicBackup(), state: null, audit_entries: [] }, { code: 'backup_empty' });
  });

  it('ignores truncate_audit with a warning', async () => {
    await node.put('own', 1);
    const report = await restore(publicBackup(), { truncate_audit: true });
    expect(report).toMatchObject({ replaced_audit_count: 0 });
    expect(report.warnings).toContainEqual(expect.stringContaining('truncate_audit has no effect'));
  });

  it('can be undone', async () => {
    await node.put('own', 1);
    await restore(publicBackup());
    await node.undo();
    expect(await node.state()).toEqual({ own: 1 });
  });

  it.each<[string, object, string]>([
    ['another state key', { state_key: 'elsewhere' }, 'state_key_mismatch'],
    ['an epoch and a newer schema', { epoch: 'abc', schema_version: 99 }, 'backup_schema_newer'],
    ['another version', { loom_backup_version: 2 }, 'backup_version_unknown'],
    ['an array as its state', { state: [] }, 'backup_malformed'],
    ['an entry that is not an object', { audit_entries: ['x'] }, 'backup_malformed'],
    ['a document that cannot be stored', { state: { a: '\u0000' } }, 'invalid_string'],
    ['an invalid name', { state: { '..': 1 } }, 'invalid_document_name'],
    ['an epoch, and so with a manifest that was lost', { epoch: 'abc' }, 'backup_unverified'],
    ['digests, and so with a manifest that was lost', { document_sha256: {} }, 'backup_unverified'],
  ])('is refused with %s', async (_what, members, code) => {
    await expectRefused({ ...publicBackup(), ...members }, { code });
  });
});

describe('a backup without its manifest', () => {
  it('is accepted only with accept_unverified, and is reported as unverified', async () => {
    const backup = without(await ownBackup(), 'manifest') as ParsedBackup;
    await node.put('a', 'later');
    await expectRefused(backup, { code: 'backup_unverified', place: { pointer: '/backup/manifest' } });
    const report = await restore(backup, { accept_unverified: true });
    // The trail already has these entries unchanged.
    expect(report).toMatchObject({ verified: false, imported_audit_count: 0, documents: { changed: 1, unchanged: 1 } });
    expect(await node.state()).toEqual({ a: 1, b: 2 });
    expect(await verify(node)).toMatchObject({ ok: true });
  });

  it('is checked by the digests that it still has', async () => {
    const backup = without(await ownBackup(), 'manifest') as ParsedBackup;
    backup.state.a = 'edited';
    const error = { code: 'backup_digest_mismatch', place: { document: 'a', pointer: '/backup/state/a' } };
    await expectRefused(backup, error, { accept_unverified: true });
    await restore(without(backup, 'document_sha256'), { accept_unverified: true });
    expect(await node.state()).toEqual({ a: 'edited', b: 2 });
  });

  it('may be written by hand without a state key', async () => {
    const byHand = { loom_backup_version: 1, state: { made: 'by hand' } };
    await expectRefused(byHand, { code: 'backup_unverified' });
    const report = await restore(byHand, { accept_unverified: true });
    expect(report.warnings).toEqual([
      expect.stringContaining('no manifest'),
      expect.stringContaining('no audit trail'),
      expect.stringContaining('does not contain the state key'),
    ]);
    expect(await node.state()).toEqual({ made: 'by hand' });
  });

  it('is the only fault that accept_unverified accepts: a wrong manifest is refused', async () => {
    const backup = await ownBackup();
    backup.manifest.documents += 1;
    await expectRefused(backup, { code: 'backup_digest_mismatch' }, { accept_unverified: true });
    backup.state.a = 'edited';
    await expectRefused(backup, { code: 'backup_digest_mismatch' }, { accept_unverified: true });
  });

  it('continues from its revision, if it has one', async () => {
    const backup = { loom_backup_version: 1, state_key: 'default', revision: 1_000, epoch: 'abc', state: {} };
    expect(await restore(backup, { accept_unverified: true })).toMatchObject({ revision: 1_001 });
    const most = { ...backup, revision: limits.maxBackupRevision + 1 };
    const error = { code: 'backup_malformed', place: { pointer: '/backup/revision' } };
    await expectRefused(most, error, { accept_unverified: true });
  });
});

describe('a text of the header', () => {
  it.each(['instance_id', 'state_key', 'epoch', 'exported_at'])('has a maximum length: %s is kept', async (member) => {
    const long = 'x'.repeat(limits.maxBackupHeaderCharacters);
    const options = { accept_unverified: true, accept_state_key: long };
    const given = { loom_backup_version: 1, state: {} };
    await expectRefused(
      { ...given, [member]: `${long}x` },
      { code: 'backup_malformed', place: { pointer: `/backup/${member}` } },
      options,
    );
    expect(await restore({ ...given, [member]: long }, options)).toMatchObject({ verified: false });
  });

  it('adds less to each import than the limit reserves for it', () => {
    // A control character takes six bytes in the text of a jsonb, more than any other character.
    expect(2 * 6 * limits.maxBackupHeaderCharacters).toBeLessThan(limits.auditImportBytes - 768);
  });
});

describe('an entry that an import would make too large for a backup', () => {
  const nested = (levels: number): unknown => JSON.parse(`${'['.repeat(levels)}1${']'.repeat(levels)}`);
  // The entry itself adds one level, and its import two more.
  const deepest = limits.maxAuditEntryDepth - limits.auditImportDepth - 2;

  it('is refused with its place, and the largest possible entry is exported and restored again', async () => {
    const backup = publicBackup();
    Object.assign(backup.audit_entries[1] ?? {}, { payload: nested(deepest + 1) });
    await expectRefused(backup, { code: 'audit_entry_too_large', place: { pointer: '/backup/audit_entries/1' } });
    Object.assign(backup.audit_entries[1] ?? {}, { payload: nested(deepest) });
    await restore(backup);
    const own = await node.backup();
    expect(await node.restore(own)).toMatchObject({ verified: true });
    expect((JSON.parse(own).audit_entries as Entry[]).length).toBe(5);
  });
});
