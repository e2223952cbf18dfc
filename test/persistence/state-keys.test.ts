import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openNodes, outcomeOf, type TestNodes } from '../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../setup/node/store.ts';
import { digestTables } from '../setup/server/digest.ts';

let nodes: TestNodes;
let mine: TestStore;
let theirs: TestStore;
let before: string;

/** Occurs in the other state only, so no answer of this state may contain it. */
const SECRET = 'belongs-to-the-other-state';
const TRAIL = 60;

beforeAll(async () => {
  nodes = await openNodes();
  mine = nodes.node;
  // The other key sorts first, is no prefix of this key, and looks like a pattern.
  theirs = await openTestStore(nodes.database.url, { stateKey: 'default%' });
  await theirs.put('shared', { [SECRET]: 1 });
  await theirs.put(SECRET, SECRET);
  await theirs.commit({ idempotencyKey: 'key', changes: [{ op: 'put', name: 'shared', json: `"${SECRET}"` }] });
  // This trail is the longer one, so that a statement that forgets the state key finds its seqs.
  await Promise.all(Array.from({ length: TRAIL - 3 }, (_, index) => theirs.put(SECRET, `${SECRET} ${index}`)));
  await theirs.takeBackup();
  before = await digestTables(nodes.database.pool, theirs.stateKey);
  await mine.put('shared', { mine: true });
  await mine.put('own', 1);
});
afterAll(async () => {
  await theirs.close();
  await nodes.close();
});

/** Expects the other state to be unchanged and absent from the answers. */
async function expectApart(answer: unknown): Promise<void> {
  expect(JSON.stringify(answer ?? null)).not.toContain(SECRET);
  expect(await digestTables(nodes.database.pool, theirs.stateKey)).toBe(before);
}

const context = () => ({ requestId: 'test', signal: new AbortController().signal });

describe('of two states in one database, no verb of one shows or touches the other', () => {
  it('the digest that these tests compare notices any change', async () => {
    const own = await digestTables(nodes.database.pool, mine.stateKey);
    expect(own).not.toBe(before);
    await mine.put('own', 2);
    expect(await digestTables(nodes.database.pool, mine.stateKey)).not.toBe(own);
    await expectApart(undefined);
  });

  it.each<[string, (store: TestStore) => Promise<unknown>]>([
    ['put', (node) => node.put('shared', 2)],
    ['put of a name that only the other has', (node) => node.put('new', 2)],
    [
      'merge',
      (node) => node.commit({ action: 'document.patch', changes: [{ op: 'merge', name: 'own', json: '{"a":1}' }] }),
    ],
    [
      'an idempotency key of the other',
      (node) => node.commit({ idempotencyKey: 'key', changes: [{ op: 'put', name: 'x', json: '1' }] }),
    ],
    ['delete', (node) => node.commit({ action: 'document.delete', changes: [{ op: 'delete', name: 'x' }] })],
    ['state.patch', (node) => node.commit({ action: 'state.patch', changes: [{ op: 'put', name: 'y', json: '1' }] })],
    ['state.put', (node) => node.commit({ action: 'state.put', changes: [{ op: 'put', name: 'own', json: '1' }] })],
    ['readHead', (node) => node.store.readHead()],
    ['observeHead', (node) => node.store.observeHead()],
    ['readDocument', (node) => node.store.readDocument('shared')],
    ['listDocuments', (node) => node.store.listDocuments({ limit: 1_000 })],
    ['readHistory', (node) => node.store.readHistory('shared', { limit: 1_000 })],
    ['openState', (node) => node.state()],
    ['readAudit', (node) => node.store.readAudit({ limit: 1_000, order: 'asc' })],
    ['readAudit by document', (node) => node.store.readAudit({ limit: 1_000, order: 'desc', document: 'shared' })],
    ['openAudit by document', async (node) => text(await node.store.openAudit({ order: 'asc', document: 'shared' }))],
    ['openAudit', async (node) => text(await node.store.openAudit({ order: 'asc' }))],
    ['verifyAudit', (node) => node.store.verifyAudit(context())],
    ['openBackup', (node) => node.backup()],
    ['openBackup and recordTaken', (node) => node.takeBackup()],
    ['readUndoRecords', (node) => node.store.readUndoRecords()],
    ['readLocks', (node) => node.store.readLocks()],
    ['readSizes', async (node) => (await node.store.readSizes()).undoBytes],
    ['readScratchStates', (node) => node.store.readScratchStates()],
    ['restore', async (node) => node.restore(await node.backup())],
    ['restore and undo', async (node) => [await node.restore(await node.backup()), await node.undo()]],
    [
      'restore into_scratch and dropScratch',
      async (node) => [
        await node.restore(await node.backup(), { into_scratch: 'trial' }),
        await node.store.dropScratch('trial'),
      ],
    ],
    ['restore with dry_run', async (node) => node.restore(await node.backup(), { dry_run: true })],
    [
      'restore with truncate_audit',
      async (node) => {
        const backup = await node.backup();
        await node.put('later', 1);
        return node.restore(backup, { truncate_audit: true });
      },
    ],
    ['readSchema', (node) => node.store.readSchema()],
    ['observe', async (node) => node.store.observe()],
  ])('%s', async (_verb, run) => {
    await expectApart(await run(mine));
    expect(await verify(mine)).toMatchObject({ ok: true });
  });

  it('a name, an event and a key that only the other knows are unknown here', async () => {
    expect(await mine.store.readDocument(SECRET)).toBeUndefined();
    const remove = mine.commit({ action: 'document.delete', changes: [{ op: 'delete', name: SECRET }] });
    expect(await outcomeOf(remove)).toBe('document_not_found');
    const ifMatch = mine.commit({
      precondition: { document: SECRET, ifMatch: '*' },
      changes: [{ op: 'put', name: SECRET, json: '1' }],
    });
    expect(await outcomeOf(ifMatch)).toBe('precondition_failed');
    await expectApart(undefined);
  });

  it('a broken chain of one does not affect the other', async () => {
    await nodes.database.pool.query(`begin; set local session_replication_role = replica;
      delete from loom_audit where state_key = 'default' and seq = 1; commit`);
    expect(await verify(mine)).toMatchObject({ ok: false, first_bad_seq: 1 });
    expect(await verify(theirs)).toMatchObject({ ok: true, entries: TRAIL });
    await expectApart(undefined);
  });

  it('the other’s backup is refused unless it is named, and then adopts its trail beside it', async () => {
    const empty = await openTestStore(nodes.database.url, { stateKey: 'third' });
    try {
      const backup = await theirs.backup();
      expect(await outcomeOf(empty.restore(backup))).toBe('state_key_mismatch');
      const report = await empty.restore(backup, { accept_state_key: theirs.stateKey });
      expect(report).toMatchObject({ imported_audit_count: TRAIL, documents: { added: 2 } });
      expect(await empty.state()).toEqual(await theirs.state());
      expect(await verify(empty)).toMatchObject({ ok: true, entries: TRAIL + 1 });
    } finally {
      await empty.close();
    }
    await expectApart(undefined);
  });

  it('a commit of one waits for no lock of the other', async () => {
    const locker = await nodes.database.pool.connect();
    try {
      await locker.query('begin');
      await locker.query('select from loom_state where state_key = $1 for update', [theirs.stateKey]);
      await mine.put('own', 'while the other is locked');
    } finally {
      locker.release(true);
    }
  });
});
