import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { RunLedger } from '../../../src/domain/backup-run.ts';
import { limits } from '../../../src/limits.ts';
import {
  digest,
  fault,
  name,
  openLedger,
  passTime,
  required,
  slotAt,
  takeBackup,
  written,
} from '../../setup/runs/ledger.ts';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';

let database: TestDatabase;
let a: RunLedger;
let b: RunLedger;
beforeAll(async () => {
  database = await createTestDatabase();
});
beforeEach(async () => {
  await database.pool.query('delete from loom_backup_run; delete from loom_backup_run_total');
  a = openLedger(database, 'a');
  b = openLedger(database, 'b');
});
afterAll(() => database.drop());

describe('a slot', () => {
  it('is claimed once, and each kind has its own', async () => {
    const run = required(await a.claimSlot('scheduled', slotAt(1)));
    expect(run).toEqual({ id: expect.any(String), kind: 'scheduled', slot: slotAt(1), attempt: 1, name: null });
    expect(await b.claimSlot('scheduled', slotAt(1))).toBeUndefined();
    expect(await a.claimSlot('scheduled', slotAt(1))).toBeUndefined();
    expect(await openLedger(database, 'b', { stateKey: 'other' }).claimSlot('scheduled', slotAt(1))).toBeDefined();
    await takeBackup(a, 2);
    expect(await b.claimSlot('drill', slotAt(1), 'backup-2')).toMatchObject({ kind: 'drill', name: 'backup-2' });
  });

  it('runs from the claim to the proof', async () => {
    const run = required(await a.claimSlot('scheduled', slotAt(1)));
    expect(await a.renew(run)).toBe(true);
    expect(await a.listBackups({ limit: 9 })).toEqual([]);
    expect(await name(a, run, 1)).toBe(true);
    expect(await a.readBackup('backup-1')).toMatchObject({ bytes: null, isBeingWritten: true, outcome: 'running' });
    expect(await a.recordWritten(run, written)).toBe(true);
    expect(await a.recordProven(run, { restoreSeconds: 0.25 })).toBe(true);
    const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    expect(await a.readBackup('backup-1')).toEqual({
      name: 'backup-1',
      kind: 'scheduled',
      taken_at: '2026-01-01T01:00:00.000000Z',
      revision: 1,
      bytes: 1_000,
      sha256: digest('object'),
      encrypted: false,
      outcome: 'proven',
      verified_at: time,
      proven_at: time,
      restore_seconds: 0.25,
      fault: null,
      runId: run.id,
      manifestSha256: digest('manifest'),
      storeId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      isBeingWritten: false,
      isOwn: false,
      deletionBegunAt: null,
    });
    expect(await b.readRun(run.id)).toEqual({
      id: run.id,
      kind: 'scheduled',
      slot: '2026-01-01T01:00:00.000000Z',
      attempt: 1,
      node: 'a',
      outcome: 'proven',
      started_at: time,
      ended_at: time,
      code: null,
      detail: null,
      retry_at: null,
      name: 'backup-1',
      restore_seconds: 0.25,
    });
    expect(await a.readRun(randomUUID())).toBeUndefined();
    expect(await a.readRun('not an id')).toBeUndefined();
  });

  it('that has ended changes no more', async () => {
    const run = await takeBackup(a, 1);
    expect(await changes(a, run)).toEqual(noChanges);
    expect(await a.claimRetry()).toBeUndefined();
  });

  it('does not take the name of another run, or record a backup without a name', async () => {
    await takeBackup(a, 1);
    const run = required(await a.claimSlot('scheduled', slotAt(2)));
    expect(await a.recordWritten(run, written)).toBe(false);
    expect(await a.recordProven(run, { restoreSeconds: 1 })).toBe(false);
    await expect(name(a, run, 2, 'backup-1')).rejects.toMatchObject({ code: 'state_busy' });
    expect(await name(a, run, 2)).toBe(true);
    expect(await a.recordProven(run, { restoreSeconds: 1 })).toBe(false);
    expect(await a.recordVerified(run, 'only a drill')).toBe(false);
  });
});

/** Calls each verb of a running run. */
async function changes(ledger: RunLedger, run: Parameters<RunLedger['renew']>[0]): Promise<boolean[]> {
  return [
    await ledger.renew(run),
    await ledger.release(run),
    await name(ledger, run, 9, 'another'),
    await ledger.recordWritten(run, written),
    await ledger.recordProven(run, { restoreSeconds: 1 }),
    await ledger.recordVerified(run, 'x'),
    await ledger.recordFailed(run, { ...fault, withdraws: true }),
  ];
}
const noChanges = [false, false, false, false, false, false, false];

describe('a run that was requested', () => {
  it('is claimed at once, any number at the same time', async () => {
    const runs = await Promise.all(Array.from({ length: 8 }, (_, index) => [a, b][index % 2]?.claimNow('manual')));
    expect(new Set(runs.map((run) => run?.slot.getTime())).size).toBe(8);
    expect(runs.map((run) => run?.kind)).toEqual(Array.from({ length: 8 }, () => 'manual'));
  });

  it('is attempted again like a scheduled one', async () => {
    const run = await a.claimNow('manual');
    await a.recordFailed(run, { code: 'store_full', detail: 'x', withdraws: false });
    await passTime(database.pool, 30_000);
    expect(await b.claimRetry()).toMatchObject({ kind: 'manual', slot: run.slot, attempt: 2 });
  });

  it('proves a backup of the catalogue, or says why it cannot', async () => {
    await expect(a.claimNow('drill', 'unknown')).rejects.toMatchObject({ code: 'stored_backup_not_found' });
    await takeBackup(a, 1, 'written');
    await expect(a.claimNow('drill', 'backup-1')).rejects.toMatchObject({ code: 'backup_running' });
    const run = await takeBackup(a, 2, 'named');
    await a.recordFailed(run, { ...fault, withdraws: false });
    await expect(a.claimNow('drill', 'backup-2')).rejects.toMatchObject({ code: 'stored_backup_missing' });
    await takeBackup(a, 3);
    await takeBackup(a, 4);
    expect(await a.claimNow('drill', 'backup-3')).toMatchObject({ kind: 'drill', attempt: 1, name: 'backup-3' });
    expect(await a.beginDeletion('backup-3')).toBe(false);
    await takeBackup(a, 5);
    expect(await a.beginDeletion('backup-4')).toBe(true);
    await expect(a.claimNow('drill', 'backup-4')).rejects.toMatchObject({ code: 'stored_backup_not_found' });
    expect(await a.claimSlot('drill', slotAt(9), 'backup-4')).toBeUndefined();
  });
});

describe('a failed run', () => {
  it('has three attempts with a growing pause', async () => {
    const first = required(await a.claimSlot('scheduled', slotAt(1)));
    expect(await a.recordFailed(first, { code: 'store_unreachable', detail: 'no route', withdraws: false })).toBe(true);
    const failed = required(await a.readRun(first.id));
    expect(failed).toMatchObject({ outcome: 'failed', code: 'store_unreachable', detail: 'no route' });
    const pauseMs = Date.parse(String(failed.retry_at)) - Date.parse(String(failed.ended_at));
    expect(Math.round(pauseMs / 1_000)).toBe(30);
    expect(await a.claimRetry()).toBeUndefined();
    await passTime(database.pool, 29_000);
    expect(await a.claimRetry()).toBeUndefined();
    await passTime(database.pool, 1_000);
    const second = required(await b.claimRetry());
    expect(second).toEqual({ ...first, id: expect.any(String), attempt: 2 });
    expect(await a.readRun(first.id)).toMatchObject({ outcome: 'failed', retry_at: null });
    expect(await a.claimRetry()).toBeUndefined();
    await b.recordFailed(second, { code: 'store_full', detail: 'full', withdraws: false });
    await passTime(database.pool, 119_000);
    expect(await a.claimRetry()).toBeUndefined();
    await passTime(database.pool, 1_000);
    const third = required(await a.claimRetry());
    expect(third.attempt).toBe(3);
    await a.recordFailed(third, { code: 'store_full', detail: 'full', withdraws: false });
    await passTime(database.pool, 3_600_000);
    expect(await a.claimRetry()).toBeUndefined();
    expect(await a.readRun(third.id)).toMatchObject({ outcome: 'failed', retry_at: null });
    expect((await a.listRuns({ limit: 2 })).map(({ attempt }) => attempt)).toEqual([3, 2]);
  });

  it('is attempted again after newer slots, the newest first', async () => {
    for (const hour of [1, 2, 3]) {
      const run = required(await a.claimSlot('scheduled', slotAt(hour)));
      if (hour !== 2) await a.recordFailed(run, { code: 'store_full', detail: 'x', withdraws: false });
    }
    await passTime(database.pool, 30_000);
    const hours = [await a.claimRetry(), await b.claimRetry(), await a.claimRetry()].map((run) =>
      run?.slot.getUTCHours(),
    );
    expect(hours).toEqual([3, 2, 1]);
    expect(await a.claimRetry()).toBeUndefined();
  });
});

describe('a node that died', () => {
  it('loses its run after the lease, and changes nothing when it wakes', async () => {
    const lost = await takeBackup(a, 1, 'named');
    await passTime(database.pool, 29_000);
    expect(await b.claimRetry()).toBeUndefined();
    expect(await a.renew(lost)).toBe(true);
    await passTime(database.pool, 30_000);
    expect(await changes(a, lost)).toEqual(noChanges);
    const taken = required(await b.claimRetry());
    expect(taken).toEqual({ ...lost, id: expect.any(String), attempt: 2, name: null });
    expect(await changes(a, lost)).toEqual(noChanges);
    expect(await changes(a, { ...taken })).toEqual(noChanges);
    expect(await a.readRun(lost.id)).toMatchObject({ outcome: 'abandoned', code: 'run_lost', name: 'backup-1' });
    expect(await name(b, taken, 1, 'backup-1-again')).toBe(true);
    await b.recordWritten(taken, written);
    expect(await b.recordProven(taken, { restoreSeconds: 1 })).toBe(true);
    expect((await a.listBackups({ limit: 9 })).map((one) => [one.name, one.outcome])).toEqual([
      ['backup-1-again', 'proven'],
      ['backup-1', 'abandoned'],
    ]);
  });

  it('says so when it shuts down, and another one takes over at once', async () => {
    const run = await takeBackup(a, 1, 'named');
    expect(await b.release(run)).toBe(false);
    expect(await a.release(run)).toBe(true);
    expect(await changes(a, run)).toEqual(noChanges);
    expect(await b.claimRetry()).toMatchObject({ attempt: 2 });
    const detail = 'The node a was shut down during the run.';
    expect(await a.readRun(run.id)).toMatchObject({ outcome: 'abandoned', code: 'run_lost', detail });
    expect(await a.release(run)).toBe(false);
  });

  it('each time is replaced ten times, besides failures', async () => {
    await a.claimSlot('scheduled', slotAt(1));
    let attempts = 1;
    for (;;) {
      await passTime(database.pool, 30_000);
      const run = await b.claimRetry();
      if (run === undefined) break;
      attempts += 1;
      if (attempts === 4) {
        await b.recordFailed(run, { code: 'store_full', detail: 'x', withdraws: false });
      }
    }
    expect(attempts).toBe(limits.maxAbandonedAttempts + 1);
    const runs = await a.listRuns({ limit: 99 });
    expect(runs.map(({ outcome }) => outcome).filter((outcome) => outcome === 'abandoned')).toHaveLength(10);
  });

  it('is replaced although the clock has gone back since', async () => {
    const run = required(await a.claimSlot('scheduled', slotAt(1)));
    await passTime(database.pool, -3_600_000);
    expect(await a.renew(run)).toBe(true);
    expect(await b.claimRetry()).toBeUndefined();
    await passTime(database.pool, -3_600_000);
    const taken = required(await b.claimRetry());
    expect(await a.renew(run)).toBe(false);
    await b.recordFailed(taken, { code: 'store_full', detail: 'x', withdraws: false });
    await passTime(database.pool, -3_600_000);
    expect(await b.claimRetry()).toMatchObject({ attempt: 3 });
  });
});
