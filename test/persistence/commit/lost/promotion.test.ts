import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../../../src/dev/postgres.ts';
import { outcomeOf } from '../../../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../../../setup/node/store.ts';
import { applyMigrations } from '../../../setup/server/migrations.ts';

const run = promisify(execFile);

let home: string;
let server: EmbeddedPostgres;
let node: TestStore;

async function start(files: Record<string, string> = {}, port = 0): Promise<void> {
  const settings = { fsync: 'off', hot_standby: 'on' };
  server = await startEmbeddedPostgres({ dataDirectory: join(home, 'data'), persistent: false, port, settings, files });
}

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'loom-test-promotion-'));
  await start();
  await applyMigrations(server.url);
  node = await openTestStore(server.url);
});
afterEach(async () => {
  await node.close();
  await server.stop();
  await rm(home, { recursive: true, force: true });
});

/** Stops the server, copies its data directory, and starts it again. */
async function copyData(): Promise<string> {
  const { port, dataDirectory } = server;
  await server.stop({ keepData: true });
  const copy = `${dataDirectory}.copy`;
  await run('cp', ['-a', dataDirectory, copy]);
  await start({}, port);
  return copy;
}

/** Puts the copy in the place of the data. */
async function putBack(copy: string, files: Record<string, string> = {}): Promise<void> {
  const { port, dataDirectory } = server;
  await server.stop({ keepData: true });
  await rm(dataDirectory, { recursive: true });
  await run('mv', [copy, dataDirectory]);
  await start(files, port);
}

/** Commits as soon as the node's broken connections are gone. */
async function commitAgain(name: string): Promise<void> {
  await expect.poll(() => outcomeOf(node.put(name, 1)), { timeout: 20_000 }).toBe('made');
}

async function lastEpochEntry(): Promise<Record<string, unknown>> {
  const { entries } = await node.store.readAudit({ limit: 10, order: 'desc', action: 'epoch' });
  return JSON.parse(entries[0]?.text ?? '{}') as Record<string, unknown>;
}

it('after the promotion of a standby that lacks commits, their entity tags match nothing', {
  timeout: 120_000,
}, async () => {
  await node.put('kept', 1);
  const copy = await copyData();
  await commitAgain('lost');
  const lost = await node.store.readDocument('lost');
  const lostTag = `${lost?.epoch}.${lost?.revision}`;

  await putBack(copy, { 'standby.signal': '' });
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  await client.query('select pg_promote()');
  await client.end();
  // A node that has not seen the lost commits knows the new timeline all the same.
  await node.close();
  node = await openTestStore(server.url);

  const write = node.commit({
    precondition: { document: null, ifMatch: [lostTag] },
    changes: [{ op: 'put', name: 'kept', json: '2' }],
  });
  expect(await outcomeOf(write)).toBe('precondition_failed');
  await commitAgain('lost');
  const found = await node.store.readDocument('lost');
  expect(found?.epoch).not.toBe(lost?.epoch);
  expect(await lastEpochEntry()).toMatchObject({
    epoch: found?.epoch,
    epoch_change: { reason: 'lineage', previous_epoch: lost?.epoch },
  });
  expect(await node.store.observeHead()).toMatchObject({ epochChanges: 1, lastEpochChange: { reason: 'lineage' } });
  expect(await verify(node)).toMatchObject({ ok: true, entries: 3 });
});

it('after an older copy of the data directory was put back, a node that has seen more starts a new epoch', {
  timeout: 120_000,
}, async () => {
  await node.put('kept', 1);
  const copy = await copyData();
  for (const name of ['lost-1', 'lost-2', 'lost-3']) await commitAgain(name);
  const { epoch } = await node.store.readHead();
  await putBack(copy);
  await commitAgain('new');
  expect((await node.store.readHead()).epoch).not.toBe(epoch);
  expect(await lastEpochEntry()).toMatchObject({ epoch_change: { reason: 'revision', previous_epoch: epoch } });
  expect(await verify(node)).toMatchObject({ ok: true });
});
