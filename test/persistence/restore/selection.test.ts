import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../../src/limits.ts';
import { publicBackup } from '../../fixtures/good-backups.ts';
import { type ParsedBackup, seal } from '../../setup/backup/chain.ts';
import { sampleByKind } from '../../setup/depth.ts';
import { earlierVersions, openEarlierStore } from '../../setup/node/earlier-store.ts';
import { expectTrailMakesState } from '../../setup/node/fold.ts';
import { trailOf } from '../../setup/node/history.ts';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';
import { type TestStore, verify } from '../../setup/node/store.ts';
import { digestTables } from '../../setup/server/digest.ts';

let nodes: TestNodes;
let node: TestStore;
let backup: string;

const inBackup = { 'a*': 'star', ab: 'old', gone: 'old', same: 1, 'stock/1': 'old', 'stock/2': 'old' };
const live = { 'a*': 'later', ab: 'later', same: 1, 'stock/1': 'later', 'stock/3': 'later', new: 'later' };

async function open(): Promise<void> {
  nodes = await openNodes();
  node = nodes.node;
  const replace = (documents: Record<string, unknown>, removed: string[] = []) =>
    node.commit({
      action: 'state.patch',
      changes: [
        ...Object.entries(documents).map(([name, value]) => ({
          op: 'put' as const,
          name,
          json: JSON.stringify(value),
        })),
        ...removed.map((name) => ({ op: 'delete' as const, name })),
      ],
    });
  await replace(inBackup);
  backup = await node.backup();
  await replace(live, ['gone', 'stock/2']);
}

const restore = (documents: unknown, more: Record<string, unknown> = {}, from = backup) =>
  node.restore(from, { documents, ...more });

describe('a restore of single documents', () => {
  beforeEach(open);
  afterEach(() => nodes.close());

  it('changes, adds and removes only these, and its entry names backup and selection', async () => {
    const [{ epoch, revision }, trail] = [await node.store.readHead(), await trailOf(node)];
    const documents = ['ab', 'gone', 'new', 'stock/*'];
    const report = await restore(documents);
    expect(await node.state()).toEqual({
      ...live,
      ab: 'old',
      gone: 'old',
      'stock/1': 'old',
      'stock/2': 'old',
      'stock/3': undefined,
      new: undefined,
    });
    expect(report).toMatchObject({
      replaced_state: true,
      selected_documents: documents,
      documents: { added: 2, changed: 2, removed: 2, unchanged: 2 },
      document_names: { added: ['gone', 'stock/2'], changed: ['ab', 'stock/1'], removed: ['new', 'stock/3'] },
      audit: { adopted: 0, imported: 0, replaced: 0, parted_at: null },
      revision: revision + 1,
      warnings: ['The restore removes selected documents that the backup does not contain: 2.'],
    });
    expect(report.epoch).not.toBe(epoch);
    const after = await trailOf(node);
    const { manifest }: ParsedBackup = JSON.parse(backup);
    expect(after[trail.length]).toMatchObject({
      action: 'restore',
      restore: {
        selected_documents: documents,
        backup: { sha256: manifest.sha256, state_sha256: manifest.state_sha256 },
      },
    });
    expect(after.slice(trail.length + 1).map(({ action }) => action)).toEqual(['restore.changes']);
    expect((await restore(['same'])).documents).toMatchObject({ changed: 0, unchanged: 6 });
    await expectTrailMakesState(node);
  });

  it('leaves later commits to other documents alone, and so does its undo', async () => {
    await restore(['ab']);
    await node.put('new', 'latest');
    expect(await node.undo()).toMatchObject({ documents: { changed: 1 }, undo_record_verified: true });
    expect(await node.state()).toEqual({ ...live, new: 'latest' });
    await node.undo();
    expect(await node.state()).toEqual({ ...live, new: 'latest', ab: 'old' });
    await expectTrailMakesState(node);
  });

  it('gives no document an ETag that it had with another value', async () => {
    const tags = new Map<string, string>();
    const observe = async () => {
      for (const name of Object.keys({ ...inBackup, ...live })) {
        const found = await node.store.readDocument(name);
        if (found === undefined) continue;
        const tag = `${name} ${found.epoch}.${found.revision}`;
        expect(tags.get(tag) ?? found.text).toBe(found.text);
        tags.set(tag, found.text);
      }
    };
    // Edited behind LOOM's back: the trail still says what the restore writes, with its old revision.
    await nodes.database.pool.query(`update loom_document set value = '"edited"' where name in ('ab', 'same')`);
    await observe();
    await restore(['ab', 'gone', 'same']);
    await observe();
    await node.undo();
    await observe();
    expect(tags.size).toBe(19);
  });

  it('needs no audit trail in the backup, and imports none', async () => {
    const without = await node.backup({ includeAudit: false });
    const report = await restore(['ab'], {}, without);
    expect(report).toMatchObject({ imported_audit_count: 0, warnings: [] });
    const foreign: ParsedBackup = { ...JSON.parse(backup), state_key: 'elsewhere' };
    await expect(restore(['ab'], {}, JSON.stringify(seal(foreign)))).rejects.toMatchObject({
      code: 'state_key_mismatch',
    });
    const { length } = await trailOf(node);
    const accepted = await restore(['ab'], { accept_state_key: 'elsewhere' }, JSON.stringify(seal(foreign)));
    expect(accepted).toMatchObject({ verified: true, imported_audit_count: 0, documents: { changed: 1 } });
    expect(await trailOf(node)).toHaveLength(length + 2);
  });

  it('accepts a backup that cannot be verified as any restore does, and says so', async () => {
    const { manifest: _manifest, ...edited } = JSON.parse(backup);
    await expect(restore(['ab'], {}, JSON.stringify(edited))).rejects.toMatchObject({ code: 'backup_unverified' });
    const { length } = await trailOf(node);
    const report = await restore(['ab'], { accept_unverified: true }, JSON.stringify(edited));
    expect(report).toMatchObject({
      verified: false,
      imported_audit_count: 0,
      warnings: [expect.stringMatching('manifest')],
    });
    const ofPublicNode = publicBackup({ ab: 'public', other: 1 }, 3);
    await restore(['ab'], { accept_state_key: JSON.parse(ofPublicNode).state_key }, ofPublicNode);
    expect(await node.state()).toEqual({ ...live, ab: 'public' });
    expect(await trailOf(node)).toHaveLength(length + 4);
    expect(await verify(node)).toMatchObject({ ok: true });
  });

  it('is undone together with later ones', async () => {
    const first = await restore(['ab']);
    await restore(['stock/*', 'new']);
    expect((await node.undo({ eventId: first.event_id ?? '' })).undone).toHaveLength(2);
    expect(await node.state()).toEqual(live);
    await expectTrailMakesState(node);
  });

  const versions = sampleByKind(earlierVersions, () => 'version', { purpose: 'selection' });
  it.each(versions)('is verified and undone by an earlier node: schema version %i', async (version) => {
    const earlier = await openEarlierStore(version, nodes.database.url);
    try {
      // The trail does not tell what the earliest nodes restore, until the next restore.
      const own = await earlier.backup();
      await node.put('new', 'again');
      await earlier.restore(own);
      const before = await node.state();
      await restore(['ab', 'stock/*']);
      await expectTrailMakesState(node);
      expect(await verify(earlier)).toMatchObject({ ok: true });
      await earlier.undo();
      expect(await node.state()).toEqual(before);
      expect(await verify(node)).toMatchObject({ ok: true });
    } finally {
      await earlier.close();
    }
  });
});

describe('a selection', () => {
  beforeAll(open);
  afterAll(() => nodes.close());

  it.each<[string[], string[]]>([
    [['a**'], ['a*']],
    [['a*'], ['a*', 'ab']],
    [['a***'], ['a*']],
    [
      ['ab', 'ab', 'a*', 'ab*'],
      ['a*', 'ab'],
    ],
    [['*'], ['a*', 'ab', 'gone', 'new', 'stock/1', 'stock/2', 'stock/3']],
  ])('%j changes %j', async (documents, expected) => {
    const { document_names: names } = await restore(documents, { dry_run: true });
    expect([...names.added, ...names.changed, ...names.removed].sort()).toEqual(expected);
  });

  it('takes its members in any order', async () => {
    const rest = '"confirm":"restore","dry_run":true';
    for (const body of [
      `{"backup":${backup},"documents":["ab"],${rest}}`,
      `{${rest},"documents":["ab"],"backup":${backup}}`,
    ]) {
      expect(await node.restoreBody(body)).toMatchObject({
        document_names: { changed: ['ab'], added: [], removed: [] },
      });
    }
  });
});

describe('a selection is refused, and nothing changes', () => {
  beforeAll(open);
  afterAll(() => nodes.close());

  async function expectRefused(documents: unknown, more: Record<string, unknown>, error: object, from = backup) {
    const before = await digestTables(nodes.database.pool);
    for (const dryRun of [true, false]) {
      await expect(restore(documents, { ...more, dry_run: dryRun }, from)).rejects.toMatchObject(error);
    }
    expect(await digestTables(nodes.database.pool)).toBe(before);
  }

  it.each<[string, unknown, Record<string, unknown>, string]>([
    ['that is empty', [], {}, '/documents'],
    ['that is null', null, {}, '/documents'],
    ['that is one name', 'ab', {}, '/documents'],
    ['with something else than names', ['ab', 1], {}, '/documents/1'],
    ['with an empty name', ['ab', ''], {}, '/documents/1'],
    ['with a name that no document may have', ['..'], {}, '/documents/0'],
    ['with a prefix that no name may have', ['ab', 'a\n*'], {}, '/documents/1'],
    ['with more names than allowed', Array(limits.maxSelectedDocuments + 1).fill('ab'), {}, '/documents'],
    ['with a name that is too long', ['ab', 'a'.repeat(2 * limits.maxDocumentNameBytes + 2)], {}, '/documents/1'],
    ['that truncates the trail', ['ab'], { truncate_audit: true }, '/truncate_audit'],
    ['that replaces no state', ['ab'], { replace_state: false }, '/replace_state'],
    ['for a scratch state', ['ab'], { into_scratch: 'trial' }, '/into_scratch'],
  ])('%s', async (_what, documents, more, pointer) => {
    await expectRefused(documents, more, { code: 'invalid_restore_request', place: { pointer } });
  });

  it.each([
    [['ab', 'AB'], '/documents/1', 'Neither the backup nor the live state has a document "AB".'],
    [['ab', 'stocks/*'], '/documents/1', 'has a document whose name begins with "stocks/".'],
    [['nowhere', 'neither', 'gone'], '/documents/0', '"nowhere"'],
    [['stock/'], '/documents/0', '"stock/"'],
    [['a****'], '/documents/0', '"a**"'],
  ])('with an element that selects nothing: %j', async (documents, pointer, detail) => {
    const error = {
      code: 'document_not_found',
      status: 404,
      place: { pointer },
      message: expect.stringContaining(detail),
    };
    await expectRefused(documents, {}, error);
  });

  it('of a backup without a state', async () => {
    const without = publicBackup(null, 2);
    const error = { code: 'invalid_restore_request', place: { pointer: '/documents' } };
    await expectRefused(['ab'], { accept_state_key: JSON.parse(without).state_key }, error, without);
  });

  it('of a backup with a fault elsewhere', async () => {
    const damaged: ParsedBackup = JSON.parse(backup);
    Object.assign(damaged.state, { same: 2 });
    const fault = { code: 'backup_digest_mismatch', place: { document: 'same' } };
    await expectRefused(['ab'], {}, fault, JSON.stringify(damaged));
    const broken: ParsedBackup = JSON.parse(backup);
    Object.assign(broken.audit_entries[0] ?? {}, { actor: 'nobody' });
    await expectRefused(['ab'], {}, { code: 'backup_chain_broken' }, JSON.stringify(broken));
  });

  it('that is larger than a member may be', async () => {
    const many = Array.from({ length: limits.maxSelectedDocuments }, (_, index) => `${index}-${'x'.repeat(80)}`);
    await expectRefused(many, {}, { code: 'document_too_large', place: { pointer: '/documents' } });
  });

  it('for another revision', async () => {
    await expectRefused(['ab'], { expect_revision: 1 }, { code: 'revision_mismatch' });
  });

  it('of the largest number of names is accepted', async () => {
    const many = Array(limits.maxSelectedDocuments).fill('ab');
    expect(await restore(many, { dry_run: true })).toMatchObject({ documents: { changed: 1 } });
  });
});
