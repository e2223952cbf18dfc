import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { storeClaimNameOf } from '../../../src/backup/stored/stored-name.ts';
import type { RunLedger } from '../../../src/domain/backup-run.ts';
import type { ObjectStore } from '../../../src/domain/object-store.ts';
import { createLogger } from '../../../src/log.ts';
import { readCatalogue } from '../../../src/runs/catalogue.ts';
import { lookForOthers } from '../../../src/runs/store/store-claim.ts';
import { rounds } from '../../setup/depth.ts';
import { createTestStore, type TestStore } from '../../setup/object-store/object-store.ts';
import { openLedger, takeBackup } from '../../setup/runs/ledger.ts';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';

const storeId = '01a214ed-a53e-7cec-a3cc-fe25a65bce36';
const log = createLogger({ level: 'silent' });
const { signal } = new AbortController();

let objects: TestStore;
let store: ObjectStore;
let database: TestDatabase;
let ledger: RunLedger;
beforeEach(async () => {
  [objects, database] = await Promise.all([createTestStore('file'), createTestDatabase()]);
  store = objects.open();
  ledger = openLedger(database);
});
afterEach(async () => {
  await database.drop();
  await objects.remove();
});

/** Looks as a node does. */
const look = (by = ledger) => lookForOthers({ ledger: by, store, stateKey: 'default', log }, storeId, signal);

const edit = (assignment: string) => database.pool.query(`update loom_backup_claim set ${assignment}`);

const aged = (ms: number) =>
  ['claimed_at', 'placed_at', 'shared_at'].map((time) => `${time} = ${time} - ${ms} * interval '1 ms'`).join();

const passTime = (ms: number) => edit(aged(ms));

const MINUTE = 60_000;

const restart = () => edit(`server_started_at = server_started_at - interval '1 s'`);

const claims = async () => {
  const names: string[] = [];
  for await (const { name } of store.list('loom-default-claim-', signal)) names.push(name);
  return names;
};

const isOwn = async () => (await readCatalogue(ledger)).map((entry) => entry.isOwn);

async function settle(): Promise<void> {
  await look();
  await passTime(24 * 60 * MINUTE);
  expect(await look()).toMatchObject({ isSettled: true });
}

describe('a claim', () => {
  test('that stands long enough makes the earlier backups those of the database', async () => {
    await takeBackup(ledger, 1);
    expect(await look()).toMatchObject({ isSettled: false, isPlaced: true, isShared: false, mayBeShared: true });
    await takeBackup(ledger, 2);
    expect(await isOwn()).toEqual([true, false]);
    await passTime(24 * 60 * MINUTE - MINUTE);
    expect(await look()).toMatchObject({ isSettled: false, isDue: false, mayBeShared: false });
    await passTime(MINUTE);
    expect(await look()).toMatchObject({ isSettled: true });
    expect(await isOwn()).toEqual([true, true]);
    expect(await claims()).toEqual([]);
  });

  test('is made again after a start of the server, waits for less then, and is not taken for that of another', async () => {
    await takeBackup(ledger, 1);
    await settle();
    await restart();
    const first = await look();
    expect(first).toMatchObject({ isSettled: false, isPlaced: true });
    expect(await isOwn()).toEqual([false]);
    await restart();
    const second = await look();
    expect(second).toMatchObject({ isSettled: false, isShared: false });
    expect(await claims()).toEqual([storeClaimNameOf('default', second.id)]);
    await passTime(30 * MINUTE);
    expect(await look()).toMatchObject({ isSettled: true });
  });

  test.each([
    ['another cluster or database', `lineage = 'other'`],
    ['another store', `store_id = gen_random_uuid()`],
  ])('is made again for %s, and waits for a day, also after a start of the server', async (_what, change) => {
    await settle();
    await edit(change);
    await look();
    await restart();
    await look();
    await passTime(60 * MINUTE);
    expect(await look()).toMatchObject({ isSettled: false, isDue: false });
    await passTime(24 * 60 * MINUTE);
    expect(await look()).toMatchObject({ isSettled: true });
  });

  test('of another database is removed, and both databases know it', async () => {
    const other = await createTestDatabase();
    try {
      const theirs = openLedger(other);
      await settle();
      await look(theirs);
      expect(await look()).toMatchObject({ isSettled: true, isShared: true });
      expect(await look(theirs)).toMatchObject({ isShared: true, isSettled: false });
      // The other one tries again, and goes on by itself once this one has gone.
      await look(theirs);
      expect(await claims()).toHaveLength(1);
      await other.pool.query(`update loom_backup_claim set placed_at = placed_at - interval '1 day', shared_at = null`);
      expect(await look(theirs)).toMatchObject({ isSettled: true, isShared: false });
    } finally {
      await other.drop();
    }
  });

  test('of two databases that are both new to the store settles for neither', async () => {
    const other = await createTestDatabase();
    try {
      const theirs = openLedger(other);
      for (let each = 0; each < 4; each += 1) {
        for (const one of [database, other]) {
          await one.pool.query(`update loom_backup_claim set ${aged(24 * 60 * MINUTE)}`);
        }
        const [ours, its] = [await look(), await look(theirs)];
        expect([ours.isSettled, its.isSettled]).toEqual([false, false]);
      }
      await look();
      expect([(await look()).isShared, (await look(theirs)).isShared]).toEqual([true, true]);
    } finally {
      await other.drop();
    }
  });

  test('that many nodes of one database keep is never taken for that of another', async () => {
    const nodes = ['a', 'b', 'c'].map((node) =>
      openLedger(database, node, { claimTiming: { restartMs: 0, copyMs: 0 } }),
    );
    for (let each = 0; each < rounds({ quick: 3, full: 100 }); each += 1) {
      await restart();
      for (let pass = 0; pass < 3; pass += 1) {
        const seen = await Promise.all(nodes.map((node) => look(node)));
        expect(seen.map(({ isShared }) => isShared)).toEqual([false, false, false]);
      }
      expect(await look()).toMatchObject({ isSettled: true });
      expect(await claims()).toEqual([]);
    }
  });
});
