import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ClaimedRun } from '../../../src/domain/backup-run.ts';
import { limits } from '../../../src/limits.ts';
import { rounds, seededRandom, seedLabel } from '../../setup/depth.ts';
import { fault, name, openLedger, passTime, required, slotAt, takeBackup, written } from '../../setup/runs/ledger.ts';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';
import { openDoor } from '../../setup/server/door.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
beforeEach(async () => {
  await database.pool.query('delete from loom_backup_run; delete from loom_backup_run_total');
});
afterAll(() => database.drop());

describe('many nodes at the same time', () => {
  it('claim each slot exactly once, and take each run over exactly once', async () => {
    const slots = rounds({ quick: 6, full: 60 });
    const doors = Array.from({ length: 8 }, () => openDoor(database.url, 2));
    try {
      const ledgers = doors.map((_, index) =>
        openLedger({ ...database, door: () => required(doors[index]) }, `n${index}`),
      );
      const claimed = await Promise.all(
        ledgers.map(async (ledger) => {
          const runs: ClaimedRun[] = [];
          for (let hour = 0; hour < slots; hour += 1) {
            const run = await ledger.claimSlot('scheduled', slotAt(hour));
            if (run !== undefined) runs.push(run);
          }
          return runs;
        }),
      );
      const hours = claimed.flat().map(({ slot }) => slot.getTime());
      expect(hours.toSorted()).toEqual(Array.from({ length: slots }, (_, hour) => slotAt(hour).getTime()));
      await passTime(database.pool, limits.backupLeaseMs);
      const taken = await Promise.all(
        ledgers.map(async (ledger) => {
          const runs: ClaimedRun[] = [];
          for (;;) {
            const run = await ledger.claimRetry();
            if (run === undefined) return runs;
            runs.push(run);
          }
        }),
      );
      const retried = taken.flat().map(({ slot, attempt }) => [slot.getTime(), attempt]);
      expect(retried.toSorted()).toEqual(hours.toSorted().map((time) => [time, 2]));
      const counts = await required(ledgers[0]).observe();
      expect(counts.counts).toEqual([{ kind: 'scheduled', outcome: 'abandoned', count: slots }]);
    } finally {
      await Promise.all(doors.map((door) => door.close({ deadlineMs: 5_000 })));
    }
  });

  it('delete in any order, and the newest proven backup stays', async () => {
    for (let round = 0; round < rounds({ quick: 2, full: 40 }); round += 1) {
      const ledger = openLedger(database, 'a', { stateKey: `state ${round}` });
      for (const hour of [1, 2, 3, 4]) await takeBackup(ledger, hour);
      const drill = await ledger.claimNow('drill', 'backup-4');
      const [withdrawn, ...began] = await Promise.all([
        ledger.recordFailed(drill, { ...fault, withdraws: true }),
        ...[4, 3, 2, 1].map((hour) => ledger.beginDeletion(`backup-${hour}`)),
      ]);
      expect(withdrawn).toBe(true);
      const left = (await ledger.listBackups({ limit: 9 })).filter((one) => one.deletionBegunAt === null);
      expect(left.some(({ proven_at }) => proven_at !== null) || began[1] === true).toBe(true);
      // The proof of the newest one was withdrawn either before the others were judged, or after.
      for (const { name: marked } of (await ledger.listBackups({ limit: 9 })).filter(
        (one) => one.deletionBegunAt !== null,
      )) {
        if (!(await ledger.beginDeletion(marked))) await ledger.cancelDeletion(marked);
      }
      const kept = (await ledger.listBackups({ limit: 9 })).filter((one) => one.deletionBegunAt === null);
      expect(kept.map((one) => one.proven_at !== null)).toContain(true);
    }
  });
});

/** Plays nodes that run, die and wake up again at random, and checks after each step what must always be true. */
async function play(stateKey: string, steps: number, random: ReturnType<typeof seededRandom>): Promise<void> {
  const nodes = ['a', 'b', 'c'].map((node) => ({
    ledger: openLedger(database, node, { stateKey }),
    runs: [] as ClaimedRun[],
  }));
  let hour = 0;
  let counted = 0;
  let names = 0;
  for (let step = 0; step < steps; step += 1) {
    const node = random.pick(nodes);
    const { ledger, runs } = node;
    const run = runs.length === 0 ? undefined : random.pick(runs);
    const backups = await ledger.listBackups({ limit: 99 });
    const backup = backups.length === 0 ? undefined : random.pick(backups).name;
    const keepRun = (claimed: ClaimedRun | undefined): void => void (claimed !== undefined && runs.push(claimed));
    const actions: (() => Promise<unknown>)[] = [
      async () => keepRun(await ledger.claimSlot('scheduled', slotAt(random.integer(Math.max(0, hour - 2), ++hour)))),
      async () => keepRun(await ledger.claimRetry()),
      async () => keepRun(await ledger.claimRetry()),
      async () => {
        const next = await ledger.nextToProve();
        if (next !== undefined) keepRun(await ledger.claimSlot('drill', slotAt(hour++), next));
      },
      () => passTime(database.pool, random.pick([1_000, 10_000, 31_000, 130_000])),
      async () => {
        if (backup === undefined) return;
        if (await ledger.beginDeletion(backup)) {
          if (random.fraction() < 0.8) await ledger.recordDeleted(backup);
        } else if (random.fraction() < 0.5) await ledger.cancelDeletion(backup);
      },
    ];
    if (run !== undefined) {
      actions.push(
        () => ledger.renew(run),
        () => ledger.release(run),
        async () => {
          names += 1;
          if (await name(ledger, run, hour, `backup-${names}`)) await ledger.recordWritten(run, written);
        },
        () => ledger.recordProven(run, { restoreSeconds: 1 }),
        () => ledger.recordProven(run, { restoreSeconds: 1 }),
        () => ledger.recordVerified(run, 'No key.'),
        () => ledger.recordFailed(run, { ...fault, withdraws: random.pick([true, false]) }),
      );
    }
    const proven = await countProven(stateKey);
    await random.pick(actions)();
    const { counts } = await ledger.observe();
    const sum = counts.reduce((total, { count }) => total + count, 0);
    expect(sum, seedLabel).toBeGreaterThanOrEqual(counted);
    counted = sum;
    expect(await findFaults(stateKey), seedLabel).toEqual([]);
    // Only a withdrawal removes the last proof, never a deletion.
    if (proven > 0 && (await countProven(stateKey)) === 0) {
      const { rows } = await database.pool.query(
        `select from loom_backup_run where state_key = $1 and fault_code is not null and deleted_at is null`,
        [stateKey],
      );
      expect(rows.length, seedLabel).toBeGreaterThan(0);
    }
  }
}

async function countProven(stateKey: string): Promise<number> {
  const { rows } = await database.pool.query(
    `select from loom_backup_run where state_key = $1 and proven_at is not null and deleted_at is null and deletion_begun_at is null`,
    [stateKey],
  );
  return rows.length;
}

/** Finds slots whose attempts break a rule. */
async function findFaults(stateKey: string): Promise<unknown[]> {
  const { rows } = await database.pool.query(
    `select kind, slot from loom_backup_run where state_key = $1 group by kind, slot
      having count(*) <> max(attempt) or count(*) filter (where outcome = 'running') > 1
          or count(*) filter (where outcome in ('proven', 'verified')) > 1
          or count(*) filter (where outcome = 'failed') > $2 or count(*) filter (where outcome = 'abandoned') > $3
          or count(*) filter (where outcome in ('running', 'proven', 'verified') or retry_at is not null) > 1
          or max(attempt) <> max(attempt) filter (where outcome in ('running', 'proven', 'verified') or retry_at is not null)`,
    [stateKey, limits.maxFailedAttempts, limits.maxAbandonedAttempts],
  );
  return rows;
}

it('nodes that run, die and wake again at random keep every rule', { timeout: 600_000 }, async () => {
  const random = seededRandom('ledger');
  for (let round = 0; round < rounds({ quick: 1, full: 10 }); round += 1) {
    await play(`state ${round}`, rounds({ quick: 20, full: 200 }), random);
  }
});

it('nodes whose leases end all the time keep every rule, without a deadlock', { timeout: 300_000 }, async () => {
  const doors = Array.from({ length: 4 }, () => openDoor(database.url, 2));
  const steps = rounds({ quick: 12, full: 1_000 });
  try {
    await Promise.all(
      doors.map(async (door, index) => {
        const ledger = openLedger({ ...database, door: () => door }, `n${index}`, { leaseMs: 20, backoffMs: 1 });
        const random = seededRandom(`node ${index}`);
        let run: ClaimedRun | undefined;
        for (let step = 0; step < steps; step += 1) {
          const backups = await ledger.listBackups({ limit: 9 });
          const backup = backups.length === 0 ? 'none' : random.pick(backups).name;
          const slot = slotAt(random.integer(0, 40));
          run ??= await random.pick([
            () => ledger.claimRetry(),
            () => ledger.claimSlot('scheduled', slot),
            () => ledger.claimSlot('drill', slot, backup),
          ])();
          if (run !== undefined && run.kind !== 'drill') {
            await name(ledger, run, step, `backup-${index}-${step}`);
            await ledger.recordWritten(run, written);
          }
          if (run !== undefined) {
            const ended = run;
            await random.pick([
              async () => undefined,
              () => ledger.renew(ended),
              () => ledger.recordProven(ended, { restoreSeconds: 1 }),
              () => ledger.recordVerified(ended, 'No key.'),
              () => ledger.recordFailed(ended, { ...fault, withdraws: random.pick([true, false]) }),
            ])();
            if (random.fraction() < 0.8) run = undefined;
          }
          if (await ledger.beginDeletion(backup)) await ledger.recordDeleted(backup);
          else await ledger.cancelDeletion(backup);
        }
      }),
    );
  } finally {
    await Promise.all(doors.map((door) => door.close({ deadlineMs: 5_000 })));
  }
  expect(await findFaults('default')).toEqual([]);
});
