import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseKeepPolicy } from '../../../src/backup/stored/retention.ts';
import { parseStoredName } from '../../../src/backup/stored/stored-name.ts';
import { runProgram } from '../../../src/dev/processes.ts';
import type { ObjectStore } from '../../../src/domain/object-store.ts';
import { type BackupNode, openBackupNode, takeProven } from '../../setup/backups/backup-node.ts';
import { createTestStore, type TestStore } from '../../setup/object-store/object-store.ts';
import { queryOn } from '../../setup/replication/copy.ts';
import { applyMigrations } from '../../setup/server/migrations.ts';
import { type PrivateServer, startPrivateServer } from '../../setup/server/private-server.ts';

const SLOTS = 5;

let original: PrivateServer;
let copy: PrivateServer;
let objects: TestStore;
const nodes: BackupNode[] = [];
beforeEach(async () => {
  [original, copy, objects] = await Promise.all([startPrivateServer(), startPrivateServer(), createTestStore('file')]);
  await queryOn(original.url, `create role loom superuser login password 'loom'`);
});
afterEach(async () => {
  for (const node of nodes.splice(0)) await node.close();
  await Promise.all([original.stop(), copy.stop()]);
  await objects.remove();
});

const urlOf = ({ port }: PrivateServer): string => `postgres://loom:loom@127.0.0.1:${port}/postgres`;

const readValue = async (url: string, expression: string): Promise<string> =>
  String((await queryOn(url, `select ${expression} as value`)).rows[0]?.value);

/** Copies the disk of the running server, as a snapshot of a volume does, and starts the copy as a second server. */
async function copyDisk(): Promise<void> {
  const from = await readValue(original.url, `current_setting('data_directory')`);
  const to = await readValue(copy.url, `current_setting('data_directory')`);
  await copy.shutDown();
  for (const name of await readdir(to)) await rm(join(to, name), { recursive: true });
  await original.freeze();
  const names = (await readdir(from)).filter((name) => !name.startsWith('postmaster.'));
  const { code, output } = await runProgram('cp', ['-Rp', ...names.map((name) => join(from, name)), to]);
  await original.thaw();
  expect([code, output]).toEqual([0, '']);
  await copy.startAgain();
}

async function openNode(server: PrivateServer, deleted: Set<string>): Promise<BackupNode> {
  const store = objects.open();
  const noting: ObjectStore = {
    ...store,
    delete: async (name, signal) => {
      if (parseStoredName(name) !== undefined) deleted.add(name);
      await store.delete(name, signal);
    },
  };
  const node = await openBackupNode(urlOf(server), noting, { policy: parseKeepPolicy('last=2') });
  nodes.push(node);
  return node;
}

test('a second server on a copy of the disk deletes nothing of the first one, which goes on', {
  timeout: 240_000,
}, async () => {
  await applyMigrations(urlOf(original));
  const deleted = { original: new Set<string>(), copy: new Set<string>() };
  const first = await openNode(original, deleted.original);
  await first.node.put('a', 1);
  const shared = [await takeProven(first), await takeProven(first)];
  await copyDisk();
  // Nothing but the start of the server tells them apart.
  const lineage = 'loom_current_lineage()';
  expect(await readValue(urlOf(copy), lineage)).toBe(await readValue(urlOf(original), lineage));
  const second = await openNode(copy, deleted.copy);
  const taken = { original: [] as string[], copy: [] as string[] };
  for (let slot = 0; slot < SLOTS; slot += 1) {
    taken.copy.push(await takeProven(second));
    taken.original.push(await takeProven(first));
  }
  expect([...deleted.copy].sort()).toEqual(taken.copy.slice(0, -2).sort());
  expect([...deleted.original].sort()).toEqual([...shared, ...taken.original.slice(0, -2)].sort());
  for (const node of [first, second]) {
    expect((await node.runs.observe()).storeFault).toMatchObject({ code: 'store_shared' });
  }
});
