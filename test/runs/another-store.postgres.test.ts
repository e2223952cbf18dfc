import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseKeepPolicy } from '../../src/backup/stored/retention.ts';
import { readCatalogue } from '../../src/runs/catalogue.ts';
import { type BackupNode, type BackupSite, openBackupSite, sweepAs, takeProven } from '../setup/backups/backup-node.ts';
import { MARKER, swapStore } from '../setup/backups/swap-store.ts';
import { rounds } from '../setup/depth.ts';
import { outcomeOf } from '../setup/node/nodes.ts';
import { storeKinds } from '../setup/object-store/object-store.ts';

let site: BackupSite;
let at: BackupNode;
afterEach(() => site.close());

const take = (): Promise<string> => takeProven(at);

const drill = async (name: string) => (await at.runs.drill(name)).ended;

describe.each(storeKinds.slice(0, rounds({ quick: 1, full: 2 })))('a store of kind %s', (kind) => {
  beforeEach(async () => {
    site = await openBackupSite(kind);
    at = await site.open({ policy: parseKeepPolicy('last=2') });
    await at.node.put('a', 1);
  });

  test('that is swapped for an empty one is noticed, and nothing is written, deleted or recorded there', async () => {
    const [older, newer] = [await take(), await take()];
    const before = await readCatalogue(at.ledger);
    const swapBack = await swapStore(site.objects);
    const failed = { outcome: 'failed', code: 'store_failed', detail: expect.stringContaining('volume is mounted') };
    expect(await (await at.runs.take()).ended).toMatchObject(failed);
    expect(await drill(older)).toMatchObject(failed);
    expect(await outcomeOf(sweepAs(at, site, 120_000))).toBe('store_failed');
    expect(await outcomeOf(at.runs.remove(older))).toBe('store_failed');
    expect(await at.runs.observe()).toMatchObject({ storeIsUp: false, storeFault: { code: 'store_failed' } });
    expect(await site.objects.names()).toEqual([]);
    expect(await readCatalogue(at.ledger)).toEqual(before);
    await swapBack();
    const newest = await take();
    // A success shows at once, without the next check.
    expect(await at.runs.observe()).toMatchObject({ storeIsUp: true, storeFault: null });
    expect((await readCatalogue(at.ledger)).map(({ name }) => name)).toEqual([newest, newer]);
    expect(await site.objects.names()).toHaveLength(4);
  });

  test('without an object of the catalogue loses its proof at once, keeps the row, and regains the proof', async () => {
    const [gone, kept] = [await take(), await take()];
    const stored = await site.objects.read(gone);
    await site.objects.delete(gone);
    await sweepAs(at, site);
    const [, noted] = await readCatalogue(at.ledger);
    expect(noted).toMatchObject({ name: gone, proven_at: null, fault: { code: 'stored_backup_missing' } });
    // The rule no longer keeps it, but LOOM has not deleted it.
    const newest = await take();
    const catalogue = await readCatalogue(at.ledger);
    expect(catalogue.map(({ name }) => name)).toEqual([newest, kept, gone]);
    expect(catalogue[2]).toMatchObject({ deletionBegunAt: null, fault: noted?.fault });
    await site.objects.write(gone, stored);
    expect(await drill(gone)).toMatchObject({ outcome: 'proven' });
    expect(await at.ledger.readBackup(gone)).toMatchObject({ fault: null, proven_at: expect.any(String) });
  });
});

test('a store that lost its marker is known by its newest backup', async () => {
  site = await openBackupSite();
  at = await site.open();
  await take();
  const marker = await site.objects.read(MARKER);
  await site.objects.delete(MARKER);
  await sweepAs(at, site);
  expect(await site.objects.read(MARKER)).toEqual(marker);
});
