import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { RunLedger } from '../../../src/domain/backup-run.ts';
import { limits } from '../../../src/limits.ts';
import { fault, openLedger, passTime, required, slotAt, takeBackup } from '../../setup/runs/ledger.ts';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';

let database: TestDatabase;
let ledger: RunLedger;
beforeAll(async () => {
  database = await createTestDatabase();
});
beforeEach(async () => {
  await database.pool.query('delete from loom_backup_run; delete from loom_backup_run_total');
  ledger = openLedger(database);
});
afterAll(() => database.drop());

const names = async (query = {}) => (await ledger.listBackups({ limit: 9, ...query })).map(({ name }) => name);

describe('a drill', () => {
  it('dates the proof, and the next one proves the backup with the oldest proof', async () => {
    for (const hour of [1, 2, 3]) await takeBackup(ledger, hour);
    expect(await ledger.nextToProve()).toBe('backup-1');
    const before = required(await ledger.readBackup('backup-1'));
    const run = required(await ledger.claimSlot('drill', slotAt(4), 'backup-1'));
    expect(await ledger.nextToProve()).toBe('backup-2');
    expect(await ledger.renew(run)).toBe(true);
    expect(await ledger.recordProven(run, { restoreSeconds: 7 })).toBe(true);
    const after = required(await ledger.readBackup('backup-1'));
    expect(after).toEqual({
      ...before,
      proven_at: expect.any(String),
      verified_at: expect.any(String),
      restore_seconds: 7,
    });
    expect(String(after.proven_at) > String(before.proven_at)).toBe(true);
    expect(await ledger.readRun(run.id)).toMatchObject({ outcome: 'proven', name: 'backup-1', restore_seconds: 7 });
    expect(await names()).toEqual(['backup-3', 'backup-2', 'backup-1']);
    expect(await ledger.nextToProve()).toBe('backup-2');
  });

  it('that fails withdraws the proof until a later one succeeds, and others have their turn before', async () => {
    for (const hour of [1, 2]) await takeBackup(ledger, hour);
    const run = required(await ledger.claimSlot('drill', slotAt(4), 'backup-1'));
    await ledger.recordFailed(run, { code: 'stored_backup_damaged', detail: 'One bit.', withdraws: true });
    expect(await ledger.readBackup('backup-1')).toMatchObject({
      outcome: 'failed',
      proven_at: null,
      fault: { code: 'stored_backup_damaged', detail: 'One bit.', found_at: expect.any(String) },
    });
    expect((await ledger.listBackups({ limit: 9 })).map(({ outcome }) => outcome)).toEqual(['proven', 'failed']);
    const { runId } = required(await ledger.readBackup('backup-1'));
    expect(await ledger.readRun(runId)).toMatchObject({ outcome: 'proven' });
    expect(await ledger.nextToProve()).toBe('backup-2');
    await passTime(database.pool, 30_000);
    const again = required(await ledger.claimRetry());
    expect(again).toMatchObject({ kind: 'drill', attempt: 2, name: 'backup-1' });
    await ledger.recordProven(again, { restoreSeconds: 1 });
    const proven = { outcome: 'proven', proven_at: expect.any(String), fault: null };
    expect(await ledger.readBackup('backup-1')).toMatchObject(proven);
  });

  it('proves also the backup of a run that failed', async () => {
    const failed = await takeBackup(ledger, 1, 'failed');
    expect(await ledger.readBackup('backup-1')).toMatchObject({ outcome: 'failed', proven_at: null });
    await ledger.recordProven(await ledger.claimNow('drill', 'backup-1'), { restoreSeconds: 1 });
    expect(await ledger.readBackup('backup-1')).toMatchObject({ outcome: 'proven', proven_at: expect.any(String) });
    expect(await ledger.readRun(failed.id)).toMatchObject({ outcome: 'failed' });
  });

  it('that fails for another reason leaves the proof, and others have their turn before', async () => {
    for (const hour of [1, 2]) await takeBackup(ledger, hour);
    const before = await ledger.readBackup('backup-1');
    const run = required(await ledger.claimSlot('drill', slotAt(4), 'backup-1'));
    await ledger.recordFailed(run, { code: 'store_unreachable', detail: 'x', withdraws: false });
    expect(await ledger.readBackup('backup-1')).toEqual(before);
    // Such as a backup for whose key no node has the identity: it would have its turn every night.
    expect(await ledger.nextToProve()).toBe('backup-2');
  });

  it('without the key dates only the comparison of the bytes', async () => {
    for (const hour of [1, 2]) await takeBackup(ledger, hour);
    const before = required(await ledger.readBackup('backup-1'));
    const run = required(await ledger.claimSlot('drill', slotAt(4), 'backup-1'));
    expect(await ledger.recordVerified(run, 'The key is missing.')).toBe(true);
    expect(await ledger.readRun(run.id)).toMatchObject({ outcome: 'verified', detail: 'The key is missing.' });
    const after = required(await ledger.readBackup('backup-1'));
    expect(after).toEqual({ ...before, verified_at: expect.any(String) });
    expect(after.verified_at).not.toBe(before.verified_at);
    expect(await ledger.nextToProve()).toBe('backup-2');
  });

  it('that its node left is not attempted again once its backup is gone', async () => {
    for (const hour of [1, 2]) await takeBackup(ledger, hour);
    const run = required(await ledger.claimSlot('drill', slotAt(4), 'backup-1'));
    expect(await ledger.beginDeletion('backup-1')).toBe(false);
    await passTime(database.pool, 30_000);
    expect(await ledger.beginDeletion('backup-1')).toBe(true);
    await ledger.recordDeleted('backup-1');
    expect(await ledger.claimRetry()).toBeUndefined();
    expect(await ledger.readRun(run.id)).toMatchObject({ outcome: 'abandoned' });
    expect(await ledger.claimRetry()).toBeUndefined();
  });

  it('has nothing to do without a complete backup', async () => {
    expect(await ledger.nextToProve()).toBeUndefined();
    await takeBackup(ledger, 1, 'written');
    expect(await ledger.nextToProve()).toBeUndefined();
  });
});

describe('a deletion', () => {
  it('is marked, done and recorded, and each step may be repeated', async () => {
    for (const hour of [1, 2, 3]) await takeBackup(ledger, hour);
    await ledger.recordDeleted('backup-1');
    expect(await names()).toEqual(['backup-3', 'backup-2', 'backup-1']);
    expect(await ledger.beginDeletion('backup-1')).toBe(true);
    const { deletionBegunAt } = required(await ledger.readBackup('backup-1'));
    expect(await ledger.beginDeletion('backup-1')).toBe(true);
    expect(await ledger.readBackup('backup-1')).toMatchObject({ deletionBegunAt });
    for (const _ of [1, 2]) await ledger.recordDeleted('backup-1');
    expect(await names()).toEqual(['backup-3', 'backup-2']);
    expect(await ledger.readBackup('backup-1')).toBeUndefined();
    expect(await ledger.beginDeletion('backup-1')).toBe(false);
    expect(await names({ before: 'backup-2' })).toEqual([]);
    expect(await names({ before: 'backup-1' })).toEqual([]);
    expect(await names({ before: 'backup-3', limit: 1 })).toEqual(['backup-2']);
    await expect(names({ before: 'unknown' })).rejects.toMatchObject({ code: 'invalid_parameter' });
  });

  it('never takes the newest proven backup, the last one, or one in use', async () => {
    await takeBackup(ledger, 1);
    await takeBackup(ledger, 2);
    await takeBackup(ledger, 3, 'failed');
    await takeBackup(ledger, 4, 'written');
    await takeBackup(ledger, 5, 'named');
    const outcomes = async () => {
      const found: Record<string, boolean> = {};
      for (const name of (await names()).toReversed()) {
        found[name] = await ledger.beginDeletion(name);
        await ledger.cancelDeletion(name);
      }
      return found;
    };
    const kept = { 'backup-2': false, 'backup-4': false, 'backup-5': false };
    expect(await outcomes()).toEqual({ ...kept, 'backup-1': true, 'backup-3': true });
    await passTime(database.pool, 30_000);
    const abandoned = { 'backup-4': true, 'backup-5': true };
    expect(await outcomes()).toEqual({ ...abandoned, 'backup-1': true, 'backup-2': false, 'backup-3': true });
    expect(await ledger.beginDeletion('unknown')).toBe(false);
  });

  it('keeps the last backup although it was never proven', async () => {
    for (const hour of [1, 2]) await takeBackup(ledger, hour, 'failed');
    expect(await ledger.beginDeletion('backup-2')).toBe(true);
    expect(await ledger.beginDeletion('backup-1')).toBe(false);
    await ledger.cancelDeletion('backup-2');
    expect(await ledger.beginDeletion('backup-1')).toBe(true);
  });

  it('is judged again when a drill has withdrawn the newer proof since', async () => {
    for (const hour of [1, 2]) await takeBackup(ledger, hour);
    expect(await ledger.beginDeletion('backup-1')).toBe(true);
    const run = await ledger.claimNow('drill', 'backup-2');
    await ledger.recordFailed(run, { ...fault, withdraws: true });
    expect(await ledger.beginDeletion('backup-1')).toBe(false);
    await ledger.cancelDeletion('backup-1');
    expect(await ledger.readBackup('backup-1')).toMatchObject({ deletionBegunAt: null, fault: null });
  });

  it('of an object that differs is cancelled, and the proof is void', async () => {
    for (const hour of [1, 2]) await takeBackup(ledger, hour);
    await ledger.beginDeletion('backup-1');
    await ledger.cancelDeletion('backup-1', { code: 'stored_backup_damaged', detail: 'It has 9 bytes.' });
    expect(await ledger.readBackup('backup-1')).toMatchObject({
      deletionBegunAt: null,
      proven_at: null,
      fault: { code: 'stored_backup_damaged', detail: 'It has 9 bytes.' },
    });
  });

  it('records that a run which ended has left nothing, but never of a complete backup', async () => {
    await takeBackup(ledger, 1, 'named');
    await ledger.recordNeverWritten('backup-1');
    expect(await names()).toEqual(['backup-1']);
    await passTime(database.pool, 30_000);
    await ledger.claimRetry();
    await ledger.recordNeverWritten('backup-1');
    expect(await names()).toEqual([]);
    await takeBackup(ledger, 2, 'failed');
    await ledger.recordNeverWritten('backup-2');
    expect(await names()).toEqual(['backup-2']);
  });
});

describe('the observation', () => {
  it('of a new catalogue is empty', async () => {
    const none = {
      lastSuccessAt: null,
      lastProvenAt: null,
      lastRestoreSeconds: null,
      lastBytes: null,
      faultyBackups: 0,
      lastFailure: null,
    };
    expect(await ledger.observe()).toEqual({ ...none, running: [], counts: [] });
  });

  it('has the last success, the newest proven backup, and the last failure until a success', async () => {
    await takeBackup(ledger, 1);
    await takeBackup(ledger, 2);
    const running = await takeBackup(ledger, 3, 'written');
    const before = await ledger.observe();
    expect(before).toMatchObject({
      lastSuccessAt: (await ledger.readRun(required(await ledger.readBackup('backup-2')).runId))?.ended_at,
      lastProvenAt: '2026-01-01T02:00:00.000000Z',
      lastRestoreSeconds: 1.5,
      lastBytes: 1_000,
      lastFailure: null,
      running: [await ledger.readRun(running.id)],
      counts: [{ kind: 'scheduled', outcome: 'proven', count: 2 }],
    });
    await ledger.recordFailed(running, { ...fault, withdraws: true });
    const failed = await ledger.readRun(running.id);
    expect(await ledger.observe()).toMatchObject({ lastProvenAt: before.lastProvenAt, lastFailure: failed });
    const drill = await ledger.claimNow('drill', 'backup-2');
    await ledger.recordFailed(drill, { ...fault, withdraws: true });
    expect(await ledger.observe()).toMatchObject({
      lastSuccessAt: before.lastSuccessAt,
      lastProvenAt: '2026-01-01T01:00:00.000000Z',
      lastFailure: await ledger.readRun(drill.id),
    });
    const old = await ledger.claimNow('drill', 'backup-1');
    await ledger.recordProven(old, { restoreSeconds: 8 });
    expect(await ledger.observe()).toMatchObject({
      lastProvenAt: '2026-01-01T01:00:00.000000Z',
      lastRestoreSeconds: 8,
      lastFailure: failed,
    });
    await takeBackup(ledger, 4);
    expect(await ledger.observe()).toMatchObject({ lastProvenAt: '2026-01-01T04:00:00.000000Z', lastFailure: null });
  });

  it('counts the backups with a fault, until a proof or a deletion ends it', async () => {
    const faulty = async () => (await ledger.observe()).faultyBackups;
    for (const hour of [1, 2, 3]) await takeBackup(ledger, hour);
    await ledger.noteFault('backup-1', fault);
    expect(await faulty()).toBe(1);
    const drill = await ledger.claimNow('drill', 'backup-2');
    await ledger.recordFailed(drill, { ...fault, withdraws: true });
    expect(await faulty()).toBe(2);
    const failed = await takeBackup(ledger, 4, 'written');
    await ledger.recordFailed(failed, { ...fault, withdraws: true });
    expect(await faulty()).toBe(3);
    await ledger.recordProven(await ledger.claimNow('drill', 'backup-2'), { restoreSeconds: 1 });
    expect(await faulty()).toBe(2);
    await ledger.beginDeletion('backup-1');
    await ledger.recordDeleted('backup-1');
    expect(await faulty()).toBe(1);
  });

  it('counts pruned runs, and keeps what a slot or a stored backup needs', async () => {
    await takeBackup(ledger, 1);
    await takeBackup(ledger, 2);
    await ledger.beginDeletion('backup-1');
    await ledger.recordDeleted('backup-1');
    await database.pool.query(
      `insert into loom_backup_run (state_key, kind, slot, attempt, id, node, lease_until, outcome, started_at, ended_at, retry_at)
       select 'default', 'scheduled', timestamptz '2020-01-01' + n * interval '1 hour', attempt, gen_random_uuid(), 'a', now(), 'failed',
              now(), now(), case when n = 5 and attempt = 2 then now() + interval '1 minute' end
         from generate_series(1, $1::int) n, generate_series(1, 2) attempt`,
      [limits.maxKeptSlots + 8],
    );
    await takeBackup(ledger, 3);
    const rows = async () => {
      const { rows: found } = await database.pool.query(
        `select extract(epoch from slot - timestamptz '2020-01-01')::int / 3600 as n, count(*)::int as rows
           from loom_backup_run where slot < '2021-01-01' group by 1 order by 1 limit 3`,
      );
      return found;
    };
    expect(await rows()).toMatchObject([{ n: 1, rows: 2 }, { n: 2 }, { n: 3 }]);
    const { counts } = await ledger.observe();
    expect(counts).toContainEqual({ kind: 'scheduled', outcome: 'failed', count: 2 * (limits.maxKeptSlots + 8) });
    await passTime(database.pool, limits.minKeptRunMs);
    const run = await takeBackup(ledger, 4, 'written');
    await ledger.recordProven(run, { restoreSeconds: 1 });
    // Four slots are newer, and the fifth is to be attempted again.
    expect(await rows()).toMatchObject([{ n: 5, rows: 2 }, { n: 13, rows: 2 }, { n: 14 }]);
    const proven = { kind: 'scheduled', outcome: 'proven', count: 4 };
    expect((await ledger.observe()).counts).toEqual([counts.find(({ outcome }) => outcome === 'failed'), proven]);
    expect(await names()).toEqual(['backup-4', 'backup-3', 'backup-2']);
  });
});
