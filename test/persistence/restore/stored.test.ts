import { Readable } from 'node:stream';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { LoomError } from '../../../src/errors.ts';
import { describeRefusals } from '../../setup/node/described-store.ts';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';
import { type TestStore, verify } from '../../setup/node/store.ts';

const NAME = 'loom-default-20261125T225728.451Z-r17.json.gz';

let nodes: TestNodes;
let node: TestStore;
let backup: string;
/** The names that were opened. */
let opened: string[];

beforeAll(async () => {
  nodes = await openNodes();
  node = nodes.node;
  await node.put('a', 'old');
  await node.put('b', 'old');
  backup = await node.backup();
});
afterAll(() => nodes.close());
beforeEach(async () => {
  opened = [];
  await node.put('a', 'new');
});

function restore(
  members: Record<string, unknown>,
  source: () => Readable = () => Readable.from([Buffer.from(backup)]),
  signal = new AbortController().signal,
) {
  const openStored = async (name: string) => {
    opened.push(name);
    return source();
  };
  const body = Readable.from([Buffer.from(JSON.stringify({ confirm: 'restore', ...members }))]);
  const context = { requestId: 'test', caller: { actor: 'admin' as const }, signal, openStored };
  return describeRefusals({ ...node.store }).restore(body, context);
}

it('a stored backup is planned, restored and undone like any other, and the entry names it', async () => {
  const plan = await restore({ from: NAME, dry_run: true });
  expect(plan).toMatchObject({ dry_run: true, stored_backup: NAME, verified: true, documents: { changed: 1 } });
  const report = await restore({ from: NAME, expect_revision: plan.based_on_revision });
  expect(report).toMatchObject({ stored_backup: NAME, documents: plan.documents, backup: { state_key: 'default' } });
  expect(await node.state()).toEqual({ a: 'old', b: 'old' });
  const { rows } = await node.pool.query(
    `select entry -> 'restore' ->> 'stored_backup' as name from loom_audit
    where state_key = 'default' and event_id = $1`,
    [report.event_id],
  );
  expect(rows).toEqual([{ name: NAME }]);
  expect((await verify(node)).ok).toBe(true);
  await node.undo();
  expect(await node.state()).toEqual({ a: 'new', b: 'old' });
  expect(opened).toEqual([NAME, NAME]);
});

it('documents are selected out of it, and a scratch state proves it', async () => {
  await node.put('b', 'new');
  await restore({ from: NAME, documents: ['a'] });
  expect(await node.state()).toEqual({ a: 'old', b: 'new' });
  const { scratch } = await restore({ from: NAME, into_scratch: 'trial' });
  expect(scratch?.state_key).toBe('trial');
  await node.store.dropScratch('trial');
});

it.each([
  ['a backup as well', { from: NAME, backup: { state: {} } }, 'invalid_restore_request', '/from'],
  ['a name that is not a text', { from: 1 }, 'invalid_restore_request', '/from'],
  ['another confirmation', { from: NAME, confirm: 'yes' }, 'confirm_missing', '/confirm'],
  [
    'members that exclude each other',
    { from: NAME, documents: ['a'], truncate_audit: true },
    'invalid_restore_request',
    '/truncate_audit',
  ],
  ['neither', {}, 'invalid_restore_request', '/backup'],
])('a request with %s is refused, and no stored backup is read', async (_what, members, code, pointer) => {
  await expect(restore(members)).rejects.toMatchObject({ code, place: { pointer } });
  expect(opened).toEqual([]);
});

it('a node without a store refuses it', async () => {
  await expect(node.restoreBody(JSON.stringify({ confirm: 'restore', from: NAME }))).rejects.toMatchObject({
    code: 'store_not_configured',
  });
});

it('an edited header is found as in a body', async () => {
  const source = () => Readable.from([Buffer.from(backup.replace('"state_key":"default"', '"state_key":"other"'))]);
  // The digest of the manifest covers the header.
  await expect(restore({ from: NAME, accept_state_key: 'other' }, source)).rejects.toMatchObject({
    code: 'backup_digest_mismatch',
  });
});

it('damage of the stored bytes outranks what it does to the text, and nothing changes', async () => {
  const damage = new LoomError('stored_backup_damaged', 'The bytes differ.');
  async function* broken(start: string) {
    yield Buffer.from(start);
    yield Buffer.from('   ');
    throw damage;
  }
  for (const start of [backup.slice(0, -10), backup.replace(':', ' '), '{"loom_backup_version":1,'])
    await expect(restore({ from: NAME }, () => Readable.from(broken(start)))).rejects.toBe(damage);
  expect(await node.state()).toMatchObject({ a: 'new' });
});

it('a text with a fault keeps its own code if the bytes are those that were written', async () => {
  const source = () => Readable.from([Buffer.from(`${backup} x`)]);
  await expect(restore({ from: NAME }, source)).rejects.toMatchObject({ code: 'invalid_json' });
});

it('a client that disconnects ends the read of the store', async () => {
  const aborts = new AbortController();
  let source: Readable | undefined;
  const restoring = restore(
    { from: NAME },
    () => {
      source = new Readable({ read: () => aborts.abort() });
      return source;
    },
    aborts.signal,
  );
  await expect(restoring).rejects.toMatchObject({ code: 'client_gone' });
  expect(source?.destroyed).toBe(true);
  expect(await node.state()).toMatchObject({ a: 'new' });
});
