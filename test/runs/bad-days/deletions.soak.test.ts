import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseKeepPolicy } from '../../../src/backup/stored/retention.ts';
import { manifestNameOf } from '../../../src/backup/stored/stored-name.ts';
import { readCatalogue } from '../../../src/runs/catalogue.ts';
import {
  type BackupNode,
  type BackupSite,
  openBackupSite,
  sweepAs,
  takeProven,
} from '../../setup/backups/backup-node.ts';
import { outcomeOf } from '../../setup/node/nodes.ts';
import { createS3TestStore, type S3TestStore } from '../../setup/object-store/object-store.ts';

let site: BackupSite;
let at: BackupNode;
beforeEach(async () => {
  site = await openBackupSite();
  at = await site.open();
  await at.node.put('a', 1);
});
afterEach(() => site.close());

const sweepAt = (aheadMs = 0) => sweepAs(at, site, aheadMs);

const take = (): Promise<string> => takeProven(at);

const namesOf = async () => (await site.objects.names()).toSorted();

describe('a deletion that another node has left', () => {
  test('is finished, wherever it was interrupted', async () => {
    const names = [await take(), await take(), await take(), await take()];
    const [whole = '', half = '', gone = ''] = names;
    for (const name of [whole, half, gone]) expect(await at.ledger.beginDeletion(name)).toBe(true);
    await site.objects.delete(manifestNameOf(half));
    await site.objects.delete(manifestNameOf(gone));
    await site.objects.delete(gone);
    // Another node may still be at it.
    await sweepAt();
    expect(await readCatalogue(at.ledger)).toHaveLength(4);
    await sweepAt(120_000);
    expect((await readCatalogue(at.ledger)).map(({ name }) => name)).toEqual([names[3]]);
    expect(await namesOf()).toHaveLength(2);
  });

  test('is cancelled if the rules forbid it by now', async () => {
    const [older, newer] = [await take(), await take()];
    expect(await at.ledger.beginDeletion(older)).toBe(true);
    await site.objects.delete(newer);
    expect(await (await at.runs.drill(newer)).ended).toMatchObject({ outcome: 'failed' });
    await sweepAt(120_000);
    const [, kept] = await readCatalogue(at.ledger);
    expect(kept).toMatchObject({ name: older, deletionBegunAt: null });
    expect(await namesOf()).toContain(older);
  });
});

describe('retention', () => {
  test('deletes after a success what the policy does not keep', async () => {
    const keeper = await site.open({ policy: parseKeepPolicy('last=2') });
    const names: string[] = [];
    for (let index = 0; index < 4; index += 1) names.push(String((await (await keeper.runs.take()).ended).name));
    expect((await readCatalogue(at.ledger)).map(({ name }) => name)).toEqual([names[3], names[2]]);
    expect(await namesOf()).toHaveLength(4);
  });

  test('and a person never delete the newest proven backup', async () => {
    const only = await take();
    expect(await outcomeOf(at.runs.remove(only))).toBe('stored_backup_kept');
    await take();
    await at.runs.remove(only);
    expect(await outcomeOf(at.runs.remove(only))).toBe('stored_backup_not_found');
  });
});

test('S3 that accepts a deletion and stands still: the operator gets an error, and a later sweep finishes the deletion', async () => {
  const s3: S3TestStore = await createS3TestStore();
  try {
    const patient = s3.open({ idleTimeoutMs: 120_000, requestTimeoutMs: 240_000, maxAttempts: 1 });
    const node = await site.open({ store: patient });
    const [older, newer] = [await takeProven(node), await takeProven(node)];
    s3.proxy.inject({ fault: 'hang', when: ({ method }) => method === 'DELETE' });
    await expect(node.runs.remove(older)).rejects.toMatchObject({
      code: 'store_unreachable',
      message: expect.stringMatching(/^The store s3:.* has not answered within 30 s\./),
    });
    expect(await node.ledger.readBackup(older)).toMatchObject({ deletionBegunAt: expect.any(String) });
    s3.proxy.inject(undefined);
    await sweepAs(node, { ...site, objects: s3 }, 120_000);
    expect((await readCatalogue(node.ledger)).map(({ name }) => name)).toEqual([newer]);
    expect((await s3.names()).toSorted()).toEqual([newer, manifestNameOf(newer)]);
  } finally {
    await s3.remove();
  }
}, 120_000);
