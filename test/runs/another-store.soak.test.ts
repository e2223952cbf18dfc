import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseKeepPolicy } from '../../src/backup/stored/retention.ts';
import { writeStoreMarker } from '../../src/backup/stored/store-marker.ts';
import { manifestNameOf, storeMarkerNameOf } from '../../src/backup/stored/stored-name.ts';
import type { ObjectStore } from '../../src/domain/object-store.ts';
import { createRunLedger } from '../../src/persistence/runs/ledger.ts';
import { readCatalogue } from '../../src/runs/catalogue.ts';
import { claimStore } from '../../src/runs/store/store-identity.ts';
import { type BackupNode, type BackupSite, openBackupSite, sweepAs, takeProven } from '../setup/backups/backup-node.ts';
import { MARKER, swapStore } from '../setup/backups/swap-store.ts';
import { storeKinds } from '../setup/object-store/object-store.ts';

let site: BackupSite;
let at: BackupNode;
afterEach(() => site.close());

const take = (by = at): Promise<string> => takeProven(by);

const { signal } = new AbortController();

describe.each(storeKinds)('a store of kind %s', (kind) => {
  beforeEach(async () => {
    site = await openBackupSite(kind);
    at = await site.open();
    await at.node.put('a', 1);
  });

  test('with the marker of another store is refused, and one with the marker of the catalogue is accepted', async () => {
    const old = await take();
    const marker = await site.objects.read(MARKER);
    await site.objects.write(MARKER, Buffer.from(writeStoreMarker(randomUUID())));
    expect(await (await at.runs.take()).ended).toMatchObject({ outcome: 'failed', code: 'store_failed' });
    await site.objects.write(MARKER, Buffer.from('{}'));
    expect(await (await at.runs.take()).ended).toMatchObject({ outcome: 'failed', code: 'store_failed' });
    await site.objects.delete(MARKER);
    for (const name of [old, manifestNameOf(old)]) await site.objects.delete(name);
    await site.objects.write(MARKER, marker);
    const newer = await take();
    await sweepAs(at, site);
    expect(await readCatalogue(at.ledger)).toMatchObject([
      { name: newer, fault: null },
      { name: old, proven_at: null, fault: { code: 'stored_backup_missing' } },
    ]);
    // A person may remove the row of a backup that is gone for good.
    await at.runs.remove(old);
    expect(await readCatalogue(at.ledger)).toMatchObject([{ name: newer }]);
  });

  test('holds a marker for each state, and a new database takes over the marker that it finds', async () => {
    const other = createRunLedger(at.node.database, { stateKey: 'other', node: 'a' });
    const store = site.objects.open();
    const ids = await Promise.all([
      claimStore({ ledger: at.ledger, store, stateKey: 'default' }, signal),
      claimStore({ ledger: other, store, stateKey: 'other' }, signal),
    ]);
    expect(new Set(ids).size).toBe(2);
    expect(String(await site.objects.read(storeMarkerNameOf('other')))).toContain(ids[1]);
    await take();
    expect(await at.ledger.readNewestComplete()).toMatchObject({ storeId: ids[0] });
  });

  test.each(['before', 'after'])(
    'that vanishes %s a deletion keeps the row, and the deletion is finished later',
    async (when) => {
      const old = await take();
      const objects = site.objects.open();
      let swapBack: (() => Promise<void>) | undefined;
      const swaps: ObjectStore = {
        ...objects,
        delete: async (name, aborts) => {
          if (when === 'after') await objects.delete(name, aborts);
          swapBack ??= await swapStore(site.objects);
          await objects.delete(name, aborts);
        },
      };
      await take(await site.open({ store: swaps, policy: parseKeepPolicy('last=1') }));
      expect(swapBack).toBeDefined();
      expect(await at.ledger.readBackup(old)).toMatchObject({ deletionBegunAt: expect.any(String) });
      await swapBack?.();
      await sweepAs(at, site, 120_000);
      expect(await at.ledger.readBackup(old)).toBeUndefined();
      expect(await site.objects.names()).toHaveLength(2);
    },
  );

  test('that vanishes during a run fails the run', async () => {
    await take();
    const objects = site.objects.open();
    let swapBack: (() => Promise<void>) | undefined;
    const swaps: ObjectStore = {
      ...objects,
      put: async (name, content, aborts) => {
        swapBack ??= await swapStore(site.objects);
        return await objects.put(name, content, aborts);
      },
    };
    const node = await site.open({ store: swaps });
    expect(await (await node.runs.take()).ended).toMatchObject({ outcome: 'failed', code: 'store_failed' });
    expect(await site.objects.names()).toEqual([]);
    await swapBack?.();
    await take();
  });
});
