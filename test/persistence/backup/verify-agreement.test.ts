import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { OpenBackup } from '../../../src/backup/offline/read.ts';
import { verifyBackup } from '../../../src/backup/offline/verifier.ts';
import { describeMismatch } from '../../../src/cli/terminal/fold-text.ts';
import { isLoomError } from '../../../src/errors.ts';
import { CURRENT_SCHEMA_VERSION } from '../../../src/persistence/schema/schema.ts';
import { type ParsedBackup, relink, seal } from '../../setup/backup/chain.ts';
import { change, type Path, scalarsOf, without } from '../../setup/backup/spoil.ts';
import { entryText, writeBackup } from '../../setup/backup/written-backup.ts';
import { sampleByKind } from '../../setup/depth.ts';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';

let nodes: TestNodes;
let text: string;

beforeAll(async () => {
  nodes = await openNodes();
  const { node } = nodes;
  await node.put('b/ü', 'text');
  await node.put('a', { list: [1, true, null, 'x'], nested: { __proto__x: 1e21, deep: '\u0001"\\' } });
  await node.commit({ idempotencyKey: 'key', changes: [{ op: 'put', name: '10', json: '0.5' }] });
  await node.put('9', [{ bb: 1, a: 2, '': 1e-7 }]);
  for (let index = 0; index < 8; index += 1) await node.put(`😀${index}`, { index });
  await node.commit({ action: 'document.patch', changes: [{ op: 'merge', name: 'a', json: '{"list":null}' }] });
  text = await node.backup();
});
afterAll(() => nodes.close());

const opened = (content: string | Buffer, chunkBytes = 1000): OpenBackup =>
  async function* () {
    const bytes = Buffer.from(content);
    for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
  };

/** Returns the offline verifier's verdict, with the place as a restore names it. */
async function offline(content: string | Buffer, window?: number): Promise<unknown> {
  const options = { schemaVersion: CURRENT_SCHEMA_VERSION, ...(window === undefined ? {} : { window }) };
  try {
    await verifyBackup(opened(content), options);
    return 'matches';
  } catch (error) {
    if (!isLoomError(error)) throw error;
    const { pointer, document, seq } = error.place;
    return { code: error.code, pointer: pointer === undefined ? undefined : `/backup${pointer}`, document, seq };
  }
}

/** Returns the restore's verdict. A dry run checks a backup as a restore does. */
async function online(content: string): Promise<unknown> {
  try {
    await nodes.node.restoreBody(`{"confirm":"restore","dry_run":true,"backup":${content}}`);
    return 'matches';
  } catch (error) {
    if (!isLoomError(error)) throw error;
    const { pointer, document, seq } = error.place;
    return { code: error.code, pointer, document, seq };
  }
}

/** Names the member that the scalar belongs to, whatever entry or document it is in. */
const memberOf = (place: Path): string => place.filter((step) => typeof step === 'string').join('/');

describe('the offline verifier and a restore have the same verdict', () => {
  it('on a good backup, in any order of members and with any window', async () => {
    const parsed = JSON.parse(text) as ParsedBackup;
    const reversed = Object.fromEntries(Object.entries(parsed).reverse()) as unknown as ParsedBackup;
    reversed.state = Object.fromEntries(Object.entries(parsed.state).reverse());
    for (const good of [text, JSON.stringify(parsed), JSON.stringify(parsed, undefined, 2), JSON.stringify(reversed)]) {
      expect(await online(good)).toBe('matches');
      for (const window of [1, 2, 3, 100]) expect(await offline(good, window)).toBe('matches');
    }
  });

  it('on a backup with any scalar changed', async () => {
    const parsed = JSON.parse(text) as ParsedBackup;
    const places = scalarsOf(parsed, []);
    expect(places.length).toBeGreaterThan(150);
    for (const place of sampleByKind(places, memberOf, { purpose: 'agreement on a scalar' })) {
      const spoiled = structuredClone(parsed);
      change(spoiled, place);
      // The state key of another node is not a fault of the file.
      if (place[0] === 'state_key') continue;
      const content = JSON.stringify(spoiled);
      const expected = await online(content);
      expect(expected, place.join('/')).not.toBe('matches');
      expect(await offline(content, 3), place.join('/')).toEqual(expected);
    }
  });

  const spoilings: [string, (backup: ParsedBackup) => unknown][] = [
    ['without its manifest', (b) => without(b, 'manifest')],
    ['without its entries', (b) => without(b, 'audit_entries')],
    ['without its state', (b) => without(b, 'state')],
    ['without its digests', (b) => without(b, 'document_sha256')],
    ['of a newer schema', (b) => Object.assign(b, { schema_version: 99 })],
    ['with a document lost', (b) => without(b.state, '😀3')],
    ['with a document added', (b) => Object.assign(b.state, { added: 1 })],
    ['with a document and its digest lost', (b) => [without(b.state, 'a'), without(b.document_sha256, 'a')]],
    ['with entries reversed', (b) => b.audit_entries.reverse()],
    ['with an entry lost', (b) => b.audit_entries.splice(3, 1)],
    [
      'with the last entry lost, and the count made to fit',
      (b) => [b.audit_entries.pop(), b.manifest.audit_entries--, seal(b)],
    ],
    ['with an entry twice', (b) => b.audit_entries.splice(4, 1, b.audit_entries[3] ?? {})],
    [
      'with a day that no month has',
      (b) => [Object.assign(b.audit_entries[2] ?? {}, { recorded_at: '2026-02-30T00:00:00.000000Z' }), relink(b)],
    ],
    [
      'with an event id that two entries have',
      (b) => [Object.assign(b.audit_entries[5] ?? {}, { event_id: b.audit_entries[1]?.event_id }), relink(b)],
    ],
    [
      'with a key that two entries have',
      (b) => [Object.assign(b.audit_entries[5] ?? {}, { idempotency_key: 'key' }), relink(b)],
    ],
    ['with an empty key', (b) => [Object.assign(b.audit_entries[5] ?? {}, { idempotency_key: '' }), relink(b)]],
    [
      'with a digest of the state that was forged',
      (b) => [Object.assign(b.manifest, { state_sha256: b.manifest.sha256 }), seal(b)],
    ],
    [
      'with a head that was forged',
      (b) => [Object.assign(b.manifest.audit_head, { hash: b.manifest.sha256 }), seal(b)],
    ],
    ['with a string for an entry', (b) => Object.assign(b.audit_entries, { 2: 'x' })],
    ['with a document of an impossible name', (b) => Object.assign(b.state, { '..': 1 })],
    ['with a NUL in a document', (b) => Object.assign(b.state, { a: '\u0000' })],
  ];
  it.each(spoilings)('on a backup %s', async (_what, spoil) => {
    const backup = JSON.parse(text) as ParsedBackup;
    spoil(backup);
    const content = JSON.stringify(backup);
    const expected = await online(content);
    expect(expected).not.toBe('matches');
    for (const window of [1, 3, 100]) expect(await offline(content, window)).toEqual(expected);
  });

  it.each([
    ['a document', '"10":0.5', '"10":0.5,"10":0.5'],
    ['the state', '"state":{', '"state":{},"state":{'],
  ])('on a backup with %s twice', async (_what, from, to) => {
    expect(text).toContain(from);
    const content = text.replace(from, to);
    const expected = await online(content);
    expect(expected).not.toBe('matches');
    expect(await offline(content, 2)).toEqual(expected);
  });

  it('on a backup with a digest twice', async () => {
    const digest = /"10":"[0-9a-f]{64}"/.exec(text)?.[0] ?? 'missing';
    const content = text.replace(digest, `${digest},${digest}`);
    expect(await online(content)).toMatchObject({ code: 'duplicate_member', document: '10' });
    expect(await offline(content)).toEqual(await online(content));
  });

  it('on a truncated backup, and the verifier also refuses an empty file and text after a backup', async () => {
    for (let cut = 1; cut < text.length - 2; cut += 301) {
      expect(await offline(text.slice(0, cut))).toMatchObject({ code: 'backup_incomplete' });
    }
    expect(await offline('')).toMatchObject({ code: 'invalid_json' });
    expect(await offline(`${text}x`)).toMatchObject({ code: 'invalid_json' });
  });
});

it('the verifier and a verification of the restored trail name the same restores and undos', async () => {
  const claims = [2, 0, undefined, null, 1, '1', '1.0', 1e2, -1, true, 'é"', [], { b: 0.5, a: '\u0001' }];
  const steps: [action: string, changes: number, claimed?: unknown][] = [
    ['restore.changes', 1],
    ['document.delete', 1],
    ['undo.changes', 1],
    ...claims.flatMap((claim): typeof steps => [
      ['restore', 0, claim],
      ['restore.changes', 1],
    ]),
    ['undo', 0, 1],
    ['document.delete', 1],
    ['undo.changes', 1],
    ['undo', 0, 2],
    ['undo.changes', 1],
    ['restore.changes', 1],
    ['undo', 1, 3],
    ['undo.changes', 1],
    ['undo.changes', 1],
    ['restore', 0, 0],
  ];
  const entries = steps.map(([action, count, claimed], index) => {
    const changes = JSON.stringify(Array.from({ length: count }, () => ({ op: 'delete', name: 'a' })));
    const more = claimed === undefined ? {} : { [action]: { recorded_changes: claimed } };
    return entryText(index + 1, { action, changes, more });
  });
  const backup = writeBackup({ documents: [], entries });
  await nodes.node.restore(backup, { into_scratch: 'operations' });
  const context = { requestId: 'test', signal: new AbortController().signal };
  const verdict = await nodes.node.store.verifyAudit(context, 'operations');
  const named = verdict.ok ? [] : verdict.mismatches.filter(({ reason }) => reason === 'changes_mismatch');
  expect(named.length).toBeGreaterThan(10);
  const { fold } = await verifyBackup(opened(backup), { schemaVersion: CURRENT_SCHEMA_VERSION });
  const details = fold?.mismatches.map((mismatch) => [mismatch.seq, describeMismatch(mismatch)]);
  expect(details).toEqual(named.map(({ seq, detail }) => [seq, detail]));
});
