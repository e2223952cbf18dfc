import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseKeepPolicy } from '../../src/backup/stored/retention.ts';
import { makeStoredName, manifestNameOf } from '../../src/backup/stored/stored-name.ts';
import type { ClaimedRun } from '../../src/domain/backup-run.ts';
import type { ObjectStore } from '../../src/domain/object-store.ts';
import { LoomError } from '../../src/errors.ts';
import { readCatalogue } from '../../src/runs/catalogue.ts';
import {
  type BackupNode,
  type BackupSite,
  claimStoreAs,
  every,
  openBackupSite,
  sweepAs,
  takeProven,
} from '../setup/backups/backup-node.ts';
import { waitUntil } from '../setup/node/program.ts';

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

/** Claims a run and names its backup, as a node does that dies next. */
async function die(atSecond: number): Promise<{ run: ClaimedRun; name: string }> {
  const run = await at.ledger.claimNow('manual');
  const takenAt = `2026-01-01T00:00:${String(atSecond).padStart(2, '0')}.000Z`;
  const backup = { takenAt, revision: 1, encrypted: false, storeId: await claimStoreAs(at, site) };
  const name = makeStoredName({ stateKey: 'default', ...backup });
  await at.ledger.nameBackup(run, { name, ...backup });
  return { run, name };
}

/** Ends the runs of dead nodes. No run begins: all their attempts are used up. */
async function abandon(): Promise<void> {
  await site.database.pool.query(
    `update loom_backup_run set outcome = 'abandoned', ended_at = clock_timestamp() where outcome = 'running'`,
  );
}

const namesOf = async () => (await site.objects.names()).toSorted();

describe('a sweep', () => {
  test('drops the scratch states of proofs whose run has ended, and no others', async () => {
    const { run } = await die(1);
    const backup = await at.node.backup();
    await at.node.restore(backup, { into_scratch: `proof-${run.id}` });
    await at.node.restore(backup, { into_scratch: 'proof-of-an-operator' });
    await sweepAt();
    expect(await at.node.store.readScratchStates()).toHaveLength(2);
    await abandon();
    await sweepAt();
    expect(await at.node.store.readScratchStates()).toMatchObject([{ state_key: 'proof-of-an-operator' }]);
  });

  test('removes what is incomplete, but an object only after a newer proof', async () => {
    const [without, with_] = [await die(1), await die(2)];
    await site.objects.write(with_.name, Buffer.from('begun'));
    await sweepAt();
    expect(await readCatalogue(at.ledger)).toHaveLength(2);
    await abandon();
    await sweepAt();
    expect((await readCatalogue(at.ledger)).map(({ name }) => name)).toEqual([with_.name]);
    expect(await namesOf()).toEqual([with_.name]);
    const newer = await take();
    await sweepAt();
    expect((await readCatalogue(at.ledger)).map(({ name }) => name)).toEqual([newer]);
    expect(await namesOf()).toEqual([newer, manifestNameOf(newer)]);
    expect(without.name).not.toBe(newer);
  });

  test('deletes temporary objects that are older than an hour, unless a run goes on', async () => {
    await site.objects.abandon('loom-default-20260101T000000.000Z-r1.json.gz');
    await site.objects.abandon('loom-other-20260101T000000.000Z-r1.json.gz');
    await sweepAt(59 * 60_000);
    expect(await namesOf()).toHaveLength(2);
    await die(1);
    await sweepAt(61 * 60_000);
    expect(await namesOf()).toHaveLength(2);
    await abandon();
    await sweepAt(61 * 60_000);
    expect(await namesOf()).toEqual([expect.stringContaining('loom-other-')]);
  });
});

/** A store that fails for one object. */
function refusing(verb: 'get' | 'delete', object: string): ObjectStore {
  const objects = site.objects.open();
  const refused = new LoomError('store_refused', 'The user of the node may not do that.');
  return {
    ...objects,
    [verb]: (name: string, signal: AbortSignal) =>
      name === object ? Promise.reject(refused) : objects[verb](name, signal),
  };
}

describe('an object that the store refuses', () => {
  test('does not keep retention from deleting the others', async () => {
    const [unreadable, old] = [await take(), await take()];
    const keeper = await site.open({
      policy: parseKeepPolicy('last=1'),
      store: refusing('get', manifestNameOf(unreadable)),
    });
    const newest = await takeProven(keeper);
    await keeper.close();
    expect((await readCatalogue(at.ledger)).map(({ name }) => name)).toEqual([newest, unreadable]);
    expect(await namesOf()).not.toContain(old);
  });

  test('does not keep a sweep from its other work, and is reported', async () => {
    const [stuck, gone] = [await take(), await take()];
    await take();
    await at.ledger.beginDeletion(stuck);
    await site.objects.open().delete(gone, new AbortController().signal);
    await expect(sweepAs(at, site, 120_000, refusing('delete', stuck))).rejects.toMatchObject({
      code: 'store_refused',
    });
    expect(await at.ledger.readBackup(gone)).toMatchObject({
      proven_at: null,
      fault: { code: 'stored_backup_missing' },
    });
    expect(await at.ledger.readBackup(stuck)).toMatchObject({ deletionBegunAt: expect.any(String) });
    await sweepAt(120_000);
    expect(await at.ledger.readBackup(stuck)).toBeUndefined();
  });
});

describe('retention', () => {
  test('keeps a backup that differs from the catalogue, and notes it', async () => {
    const keeper = await site.open({ policy: parseKeepPolicy('last=1') });
    const damaged = await take();
    await site.objects.write(damaged, Buffer.from('something else'));
    const newer = String((await (await keeper.runs.take()).ended).name);
    expect(await readCatalogue(at.ledger)).toMatchObject([
      { name: newer, fault: null },
      { name: damaged, deletionBegunAt: null, proven_at: null, fault: { code: 'stored_backup_damaged' } },
    ]);
    expect(await namesOf()).toContain(damaged);
    // A person may delete it all the same.
    await at.runs.remove(damaged);
    expect(await namesOf()).toEqual([newer, manifestNameOf(newer)]);
  });
});

describe('a run', () => {
  test('whose lease has ended is aborted, and leaves no object without a row', async () => {
    const { ended } = await at.runs.take();
    await site.database.pool.query(`update loom_backup_run set node = 'another'`);
    expect(await ended).toMatchObject({ outcome: 'running', node: 'another' });
    const catalogue = await readCatalogue(at.ledger);
    const known = catalogue.flatMap(({ name }) => [name, manifestNameOf(name)]);
    expect((await namesOf()).filter((name) => !known.includes(name))).toEqual([]);
    expect(await at.node.store.readScratchStates()).toEqual([]);
  });

  test('whose name another node has taken in the same millisecond takes another', async () => {
    const taken = [await take()];
    const late = await site.open({
      wrapLedger: (ledger) => ({
        ...ledger,
        nameBackup: (run, { name, ...rest }) => ledger.nameBackup(run, { ...rest, name: taken.pop() ?? name }),
      }),
    });
    expect(await (await late.runs.take()).ended).toMatchObject({ outcome: 'proven', attempt: 1 });
    expect(taken).toEqual([]);
    expect(await readCatalogue(at.ledger)).toHaveLength(2);
  });

  test('that is taken over just before its end deletes what it has written', async () => {
    const objects = site.objects.open();
    const late: ObjectStore = {
      ...objects,
      put: async (...of) => {
        const written = await objects.put(...of);
        if (of[0].endsWith('.manifest.json')) {
          await site.database.pool.query(`update loom_backup_run set node = 'another'`);
        }
        return written;
      },
    };
    const slow = await site.open({ store: late });
    expect(await (await slow.runs.take()).ended).toMatchObject({ outcome: 'running', node: 'another' });
    expect(await namesOf()).toEqual([]);
  });

  test.each(['the backup', 'its manifest'])('keeps nothing in the store if it cannot write %s', async (what) => {
    const objects = site.objects.open();
    const full = new LoomError('store_full', 'The disk is full.');
    const store: ObjectStore = {
      ...objects,
      put: (name, content, aborts) =>
        name.endsWith('.manifest.json') === (what === 'its manifest')
          ? Promise.reject(full)
          : objects.put(name, content, aborts),
    };
    const kept = await take();
    const failing = await site.open({ store, policy: parseKeepPolicy('last=1') });
    const run = await (await failing.runs.take()).ended;
    expect(run).toMatchObject({ outcome: 'failed', code: 'store_full', detail: 'The disk is full.' });
    expect(await namesOf()).toEqual([kept, manifestNameOf(kept)]);
    expect(await failing.runs.observe()).toMatchObject({ storeIsUp: false, lastFailure: { id: run.id } });
  });

  test('of a node that shuts down is taken over at once, however long the lease is', async () => {
    const hangs: ObjectStore = {
      ...site.objects.open(),
      put: (_name, content, aborts) =>
        new Promise((_resolve, reject) => aborts.addEventListener('abort', () => reject(content.destroy()))),
    };
    const leaving = await site.open({ leaseMs: 3_600_000, schedule: every(24 * 3_600_000), store: hangs });
    leaving.runs.start();
    await waitUntil(
      () => at.ledger.observe(),
      ({ running }) => running.length === 1,
    );
    await leaving.close();
    const staying = await site.open({ leaseMs: 3_600_000, schedule: every(24 * 3_600_000) });
    staying.runs.start();
    await waitUntil(
      () => staying.runs.listRuns({ limit: 10 }),
      (runs) => runs.some(({ outcome }) => outcome === 'proven'),
    );
    const runs = await staying.runs.listRuns({ limit: 10 });
    expect(runs.map(({ kind, attempt, outcome }) => ({ kind, attempt, outcome }))).toEqual([
      { kind: 'scheduled', attempt: 2, outcome: 'proven' },
      { kind: 'scheduled', attempt: 1, outcome: 'abandoned' },
    ]);
  });
});
