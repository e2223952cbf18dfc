import { Readable } from 'node:stream';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type ParsedBackup, seal } from '../../setup/backup/chain.ts';
import { change, type Path, scalarsOf, without } from '../../setup/backup/spoil.ts';
import { sampleByKind } from '../../setup/depth.ts';
import { openNodes, outcomeOf, type TestNodes } from '../../setup/node/nodes.ts';
import { verify } from '../../setup/node/store.ts';
import { digestTables } from '../../setup/server/digest.ts';

let nodes: TestNodes;
let text: string;
let backup: ParsedBackup;
let before: string;

beforeAll(async () => {
  nodes = await openNodes();
  const { node } = nodes;
  await node.put('a', { list: [1, true, null, 'x'], nested: { deep: 'y' } });
  await node.put('b/ü', 'text');
  await node.commit({ idempotencyKey: 'key', changes: [{ op: 'put', name: 'c', json: '2' }] });
  await node.commit({ action: 'document.delete', changes: [{ op: 'delete', name: 'c' }] });
  await node.put('c', 3);
  text = await node.backup();
  await node.put('later', 'not in the backup');
  before = await digestTables(nodes.database.pool);
});
afterAll(() => nodes.close());
beforeEach(() => {
  backup = JSON.parse(text);
});

const body = (given: unknown, request: Record<string, unknown> = {}) =>
  JSON.stringify({ confirm: 'restore', ...request, backup: given });

const unchanged = async () => expect(await digestTables(nodes.database.pool)).toBe(before);

/** Expects the restore to be refused with this error and to leave every row of every table unchanged. */
async function expectRefused(sent: string | Readable, error: Record<string, unknown>): Promise<void> {
  await expect(nodes.node.restoreBody(sent)).rejects.toMatchObject(error);
  await unchanged();
}

describe('a restore request is refused', () => {
  it.each<[string, string, Record<string, unknown>]>([
    [
      'that is not JSON',
      '{"confirm":"restore","backup":{"state":nope}}',
      { code: 'invalid_json', place: { offset: 40 } },
    ],
    ['that is empty', '', { code: 'invalid_json' }],
    ['that is not an object', '[1]', { code: 'invalid_restore_request' }],
    ['without a backup', '{"confirm":"restore"}', { code: 'invalid_restore_request', place: { pointer: '/backup' } }],
    ['with text after it', '{"confirm":"restore"} x', { code: 'invalid_json', place: { offset: 22 } }],
  ])('%s', async (_what, sent, error) => {
    await expectRefused(sent, error);
  });

  it('without its confirmation, or with another word', async () => {
    const error = { code: 'confirm_missing', place: { pointer: '/confirm' } };
    await expectRefused(JSON.stringify({ backup }), error);
    await expectRefused(body(backup, { confirm: true }), error);
    await expectRefused(body(backup, { confirm: 'undo' }), error);
  });

  it.each([
    [{ replace_state: 'yes' }, '/replace_state'],
    [{ dry_run: 1 }, '/dry_run'],
    [{ expect_revision: -1 }, '/expect_revision'],
    [{ unknown_member: true }, '/unknown_member'],
    [{ dryrun: true }, '/dryrun'],
  ])('with the member %j', async (request, pointer) => {
    await expectRefused(body(backup, request), { code: 'invalid_restore_request', place: { pointer } });
  });

  it('that is only a backup, whatever its size', async () => {
    const error = { code: 'invalid_restore_request', message: expect.stringContaining('wrap it as {"confirm"') };
    await expectRefused(text, error);
    // These members exceed the size limit of a request's own members.
    await expectRefused(`{"state":{"large":"${'x'.repeat(100_000)}"}}`, error);
  });

  it('that has a duplicate member', async () => {
    await expectRefused(`{"confirm":"restore","dry_run":true,"dry_run":false,"backup":${text}}`, {
      code: 'duplicate_member',
    });
  });

  it('that expects another revision, or a backup of another state key', async () => {
    const { revision } = await nodes.node.store.readHead();
    await expectRefused(body(backup, { expect_revision: revision - 1 }), {
      code: 'revision_mismatch',
      place: { pointer: '/expect_revision' },
    });
    backup.state_key = 'elsewhere';
    const error = { code: 'state_key_mismatch', place: { pointer: '/backup/state_key' } };
    await expectRefused(body(seal(backup)), error);
    await expectRefused(body(backup, { accept_state_key: 'default' }), error);
    await nodes.node.restoreBody(
      body(backup, { accept_state_key: 'elsewhere', expect_revision: revision, dry_run: true }),
    );
    await unchanged();
  });

  it('while another restore of the state is in flight', async () => {
    const { node, database } = nodes;
    let release: (() => void) | undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const whole = body(backup, { dry_run: true });
    const slow = node.restoreBody(
      Readable.from(
        (async function* () {
          yield Buffer.from(whole.slice(0, 100));
          await held;
          yield Buffer.from(whole.slice(100));
        })(),
      ),
    );
    await expect.poll(() => node.store.observe().operations[0]?.bytes).toBe(100);
    await expect(node.restoreBody(whole)).rejects.toMatchObject({ code: 'restore_in_progress', status: 409 });
    release?.();
    expect(await slow).toMatchObject({ dry_run: true });
    expect(await digestTables(database.pool)).toBe(before);
    expect(await outcomeOf(node.restoreBody(whole))).toBe('made');
  });
});

describe('a backup is refused', () => {
  const spoilings: [string, (spoiled: ParsedBackup) => unknown, Record<string, unknown>][] = [
    ['of an unknown version', (b) => Object.assign(b, { loom_backup_version: 2 }), { code: 'backup_version_unknown' }],
    ['without a version', (b) => without(b, 'loom_backup_version'), { code: 'backup_version_unknown' }],
    ['of a newer schema', (b) => Object.assign(b, { schema_version: 99 }), { code: 'backup_schema_newer' }],
    ['without a manifest', (b) => without(b, 'manifest'), { code: 'backup_unverified' }],
    ['without entries', (b) => without(b, 'audit_entries'), { code: 'backup_count_mismatch' }],
    ['without state', (b) => without(b, 'state'), { code: 'backup_count_mismatch' }],
    ['with a null state', (b) => Object.assign(b, { state: null }), { code: 'backup_count_mismatch' }],
    [
      'with neither state nor entries',
      (b) => without(without(b, 'state'), 'audit_entries'),
      { code: 'backup_empty', place: { pointer: '/backup' } },
    ],
    ['with an array as its state', (b) => Object.assign(b, { state: [] }), { code: 'backup_malformed' }],
    ['with an entry that is not an object', (b) => b.audit_entries.push(1 as never), { code: 'backup_malformed' }],
    ['with an additional member', (b) => Object.assign(b, { note: 'x' }), { code: 'backup_digest_mismatch' }],
    [
      'with a document changed',
      (b) => Object.assign(b.state, { a: 1 }),
      { code: 'backup_digest_mismatch', place: { document: 'a' } },
    ],
    [
      'with a document lost',
      (b) => delete b.state['b/ü'],
      { code: 'backup_digest_mismatch', place: { document: 'b/ü' } },
    ],
    [
      'with a document added',
      (b) => Object.assign(b.state, { added: 1 }),
      { code: 'backup_digest_mismatch', place: { document: 'added' } },
    ],
    [
      'with a document and its digest lost',
      (b) => delete b.state.a && delete b.document_sha256.a,
      { code: 'backup_count_mismatch', place: { pointer: '/backup/manifest/documents' } },
    ],
    [
      'with an entry changed',
      (b) => Object.assign(b.audit_entries[1] ?? {}, { actor: 'admin' }),
      { code: 'backup_chain_broken', place: { seq: 2 } },
    ],
    [
      'with entries in another order',
      (b) => b.audit_entries.reverse(),
      { code: 'backup_chain_broken', place: { seq: 1 } },
    ],
    [
      'with an entry lost',
      (b) => b.audit_entries.splice(2, 1),
      { code: 'backup_count_mismatch', place: { pointer: '/backup/manifest/audit_entries' } },
    ],
    [
      'with an entry twice',
      (b) => b.audit_entries.splice(2, 1, b.audit_entries[1] ?? {}),
      { code: 'backup_chain_broken', place: { seq: 3 } },
    ],
    [
      'with an entry without a hash',
      (b) => delete b.audit_entries[2]?.hash,
      { code: 'backup_malformed', place: { pointer: '/backup/audit_entries/2/hash', seq: 3 } },
    ],
    [
      'with a document that cannot be stored',
      (b) => Object.assign(b.state, { a: { x: ['\u0000'] } }),
      { code: 'invalid_string', place: { pointer: '/backup/state/a/x/0', document: 'a' } },
    ],
    [
      'with a document of an impossible name',
      (b) => Object.assign(b.state, { '..': 1 }),
      { code: 'invalid_document_name', place: { pointer: '/backup/state/..' } },
    ],
  ];

  it.each(spoilings)('%s', async (_what, spoil, error) => {
    spoil(backup);
    await expectRefused(body(backup), error);
  });

  it('with a number that a double cannot represent', async () => {
    const spoiled = text.replace('"c":3', '"c":12345678901234567890');
    expect(spoiled).not.toBe(text);
    await expectRefused(`{"confirm":"restore","backup":${spoiled}}`, {
      code: 'invalid_number',
      place: { pointer: '/backup/state/c' },
    });
  });

  it('with a duplicate document, digest or section', async () => {
    const twice = (from: string, to: string) => {
      expect(text).toContain(from);
      return `{"confirm":"restore","backup":${text.replace(from, to)}}`;
    };
    await expectRefused(twice('"c":3', '"c":3,"c":3'), {
      code: 'backup_duplicate_document',
      place: { document: 'c' },
    });
    const digest = `"c":"${backup.document_sha256.c}"`;
    await expectRefused(twice(digest, `${digest},${digest}`), { code: 'duplicate_member', place: { document: 'c' } });
    await expectRefused(twice('"state":{', '"state":{},"state":{'), { code: 'duplicate_member' });
    await expectRefused(twice('"backend":', '"backend":"postgres","backend":'), { code: 'duplicate_member' });
  });

  it('whose counts were changed and sealed again', async () => {
    backup.manifest.documents += 1;
    await expectRefused(body(seal(backup)), { code: 'backup_count_mismatch' });
    backup.manifest.documents -= 1;
    backup.manifest.state_sha256 = backup.manifest.sha256;
    await expectRefused(body(seal(backup)), {
      code: 'backup_digest_mismatch',
      place: { pointer: '/backup/manifest/state_sha256' },
    });
  });

  it('whose head was moved and sealed again', async () => {
    backup.manifest.audit_head = { ...backup.manifest.audit_head, hash: 'a'.repeat(64) };
    await expectRefused(body(seal(backup)), { code: 'backup_chain_broken', place: { seq: 5 } });
  });

  it('with any scalar changed', async () => {
    const places = scalarsOf(backup, []);
    expect(places.length).toBeGreaterThan(90);
    const accepted: string[] = [];
    const kindOf = (place: Path): string => place.filter((step) => typeof step === 'string').join('/');
    for (const place of sampleByKind(places, kindOf, { purpose: 'refusal of a scalar' })) {
      const spoiled = structuredClone(backup);
      change(spoiled, place);
      const outcome = await outcomeOf(nodes.node.restoreBody(body(spoiled)));
      if (outcome === 'made' || outcome === 'internal' || outcome.startsWith('database'))
        accepted.push(`${place}: ${outcome}`);
    }
    expect(accepted).toEqual([]);
    await unchanged();
  });

  it('cut off anywhere', async () => {
    const whole = Buffer.from(body(backup));
    const cuts = [0, 1, 2, 10, whole.length - 1];
    for (let cut = 37; cut < whole.length; cut += 61) cuts.push(cut);
    for (const cut of cuts) {
      const outcome = await outcomeOf(nodes.node.restoreBody(whole.subarray(0, cut)));
      expect([cut, outcome]).toEqual([cut, cut === 0 ? 'invalid_json' : 'backup_incomplete']);
    }
    await unchanged();
  });

  it('from a sender that aborts, and the pool serves at once', async () => {
    const whole = Buffer.from(body(backup));
    for (const share of [0.1, 0.4, 0.7, 0.95]) {
      const broken = new Readable({ read: () => undefined });
      broken.push(whole.subarray(0, Math.floor(whole.length * share)));
      const refused = outcomeOf(nodes.node.restoreBody(broken));
      await expect.poll(() => nodes.node.store.observe().operations[0]?.bytes).toBeGreaterThan(0);
      broken.destroy(new Error('the sender disconnected'));
      expect(await refused).not.toBe('made');
    }
    await unchanged();
    await Promise.all(Array.from({ length: 5 }, () => nodes.node.database.execute('select pg_sleep(0.01)')));
    expect(nodes.node.store.observe()).toMatchObject({ pool: { waiting: 0 }, operations: [] });
  });

  it('that is aborted while its sender is silent, and the pool serves at once', async () => {
    const abort = new AbortController();
    const caller = { actor: 'admin' as const };
    const stalled = new Readable({ read: () => undefined });
    // The name of a document has a two-byte letter.
    stalled.push(body(backup).slice(0, 2_000));
    const refused = outcomeOf(nodes.node.store.restore(stalled, { requestId: 'test', caller, signal: abort.signal }));
    await expect.poll(() => nodes.node.store.observe().operations[0]?.bytes).toBeGreaterThan(2_000);
    abort.abort();
    expect(await refused).not.toBe('made');
    await unchanged();
    await Promise.all(Array.from({ length: 5 }, () => nodes.node.database.execute('select pg_sleep(0.01)')));
    expect(nodes.node.store.observe()).toMatchObject({ pool: { waiting: 0 }, operations: [] });
    const aborted = { requestId: 'test', caller, signal: AbortSignal.abort() };
    expect(await outcomeOf(nodes.node.store.restore(Readable.from([body(backup)]), aborted))).not.toBe('made');
    await unchanged();
  });
});

it('after all these refusals the same backup restores', async () => {
  // Two restores in a row prove that the refusals left no lock behind.
  expect(await outcomeOf(nodes.node.restoreBody(body({ ...backup, schema_version: 99 })))).toBe('backup_schema_newer');
  expect(await nodes.node.restoreBody(body(backup))).toMatchObject({ verified: true });
  expect(await nodes.node.state()).toEqual(backup.state);
  expect(await verify(nodes.node)).toMatchObject({ ok: true });
});
