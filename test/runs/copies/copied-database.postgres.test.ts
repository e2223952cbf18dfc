import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseKeepPolicy } from '../../../src/backup/stored/retention.ts';
import { parseStoredName } from '../../../src/backup/stored/stored-name.ts';
import type { ObjectStore } from '../../../src/domain/object-store.ts';
import { readCatalogue } from '../../../src/runs/catalogue.ts';
import {
  type BackupNode,
  type BackupSite,
  openBackupNode,
  openBackupSite,
  sweepAs,
  takeProven,
} from '../../setup/backups/backup-node.ts';
import { rounds } from '../../setup/depth.ts';
import { outcomeOf } from '../../setup/node/nodes.ts';
import { waitUntil } from '../../setup/node/program.ts';
import { createTestStore, storeKinds } from '../../setup/object-store/object-store.ts';
import { cloneDatabase, type TestDatabase } from '../../setup/server/database.ts';

const kept = rounds({ quick: 1, full: 2 });
const policy = parseKeepPolicy(`last=${kept}`);

let site: BackupSite;
let copy: TestDatabase;
/** Backups from before the copy was made, the oldest first. */
let shared: string[];
const cleanups: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** Notes the backups that a node deletes from the store. */
function noting(objects: ObjectStore, deleted: Set<string>): ObjectStore {
  return {
    ...objects,
    delete: async (name, signal) => {
      if (parseStoredName(name) !== undefined) deleted.add(name);
      await objects.delete(name, signal);
    },
  };
}

async function openOn(url: string, store: ObjectStore): Promise<BackupNode> {
  const node = await openBackupNode(url, store, { policy });
  cleanups.push(node.close);
  return node;
}

const faultOf = async ({ runs }: BackupNode) => (await runs.observe()).storeFault;

describe.each(storeKinds.slice(0, rounds({ quick: 1, full: 2 })))(
  'a copy of the database, with a store of kind %s',
  (kind) => {
    beforeEach(async () => {
      site = await openBackupSite(kind);
      cleanups.push(site.close);
      const first = await site.open();
      await first.node.put('a', 1);
      shared = [];
      for (let each = 0; each <= kept; each += 1) shared.push(await takeProven(first));
      await first.close();
      copy = await cloneDatabase(site.database);
      cleanups.push(copy.drop);
    });

    test('and its original delete nothing of each other, say what is wrong, and go on with a store each', {
      timeout: 240_000,
    }, async () => {
      const deleted = { original: new Set<string>(), copy: new Set<string>() };
      const original = await openOn(site.database.url, noting(site.objects.open(), deleted.original));
      let copied = await openOn(copy.url, noting(site.objects.open(), deleted.copy));
      const taken = { original: [] as string[], copy: [] as string[] };
      for (let slot = 0; slot < rounds({ quick: 2, full: 20 }); slot += 1) {
        taken.copy.push(await takeProven(copied));
        taken.original.push(await takeProven(original));
      }
      // Each deletes what it has written itself. The copy leaves alone what it may share.
      expect([...deleted.copy].sort()).toEqual(taken.copy.slice(0, -kept).sort());
      expect([...deleted.original].sort()).toEqual([...shared, ...taken.original.slice(0, -kept)].sort());
      for (const node of [original, copied]) {
        expect(await faultOf(node)).toMatchObject({
          code: 'store_shared',
          detail: expect.stringContaining('Another database'),
        });
      }
      // The original has removed the claim of the copy, and the copy has not looked since.
      await copy.pool.query(
        'update loom_backup_claim set placed_at = coalesce(placed_at, clock_timestamp()), shared_at = null',
      );
      const newest = String((await readCatalogue(copied.ledger))[0]?.name);
      expect(await outcomeOf(copied.runs.remove(String(shared[0])))).toBe('store_shared');

      // The step of docs/stored-backups.md: a store of its own, and an empty catalogue.
      await copied.close();
      await copy.pool.query('delete from loom_backup_run');
      const own = await createTestStore(kind);
      cleanups.push(own.remove);
      copied = await openOn(copy.url, own.open());
      for (let each = 0; each <= kept; each += 1) await takeProven(copied);
      expect(await readCatalogue(copied.ledger)).toHaveLength(kept);
      expect(await faultOf(copied)).toBeNull();

      await site.database.pool.query(`update loom_backup_claim set shared_at = shared_at - interval '1 hour'`);
      original.runs.start();
      await takeProven(original);
      await waitUntil(
        () => faultOf(original),
        (fault) => fault === null,
      );
      expect(await site.objects.names()).toContain(newest);
    });
  },
);

test('a backup of the same name by a copy stays, and the row of the failed run does not name it', async () => {
  site = await openBackupSite();
  cleanups.push(site.close);
  const objects = site.objects.open();
  let taken: string | undefined;
  const node = await site.open({
    store: {
      ...objects,
      put: async (name, content, signal) => {
        if (taken === undefined && parseStoredName(name) !== undefined) {
          taken = name;
          await site.objects.write(name, Buffer.from('theirs'));
        }
        return await objects.put(name, content, signal);
      },
    },
  });
  await node.node.put('a', 1);
  expect(await (await node.runs.take()).ended).toMatchObject({ outcome: 'failed', code: 'store_failed', name: null });
  await takeProven(node);
  await sweepAs(node, site, 24 * 3_600_000);
  expect(String(await site.objects.read(String(taken)))).toBe('theirs');
  expect(await readCatalogue(node.ledger)).toHaveLength(1);
});
