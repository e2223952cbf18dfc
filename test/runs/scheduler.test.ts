import { afterEach, expect, test } from 'vitest';
import type { CatalogueEntry, ClaimedRun, RunLedger } from '../../src/domain/backup-run.ts';
import { LoomError } from '../../src/errors.ts';
import { createLogger } from '../../src/log.ts';
import type { Runner } from '../../src/runs/runner.ts';
import { createScheduler, type Scheduler } from '../../src/runs/scheduler.ts';

const HOUR_MS = 3_600_000;
const hours = {
  lastSlot: (now: Date) => new Date(Math.floor(now.getTime() / HOUR_MS) * HOUR_MS),
  nextSlot: (now: Date) => new Date((Math.floor(now.getTime() / HOUR_MS) + 1) * HOUR_MS),
};
const never = { lastSlot: () => undefined, nextSlot: () => undefined };

let scheduler: Scheduler | undefined;
afterEach(() => scheduler?.close());

/** A database with a clock, of which a test sees the claims. */
function createFakes({
  provenAt = null as string | null,
  drill = never,
  recheckSlotMs = HOUR_MS,
  afterRun = () => {},
}: {
  provenAt?: string | null;
  drill?: typeof hours | typeof never;
  recheckSlotMs?: number;
  afterRun?: () => void;
} = {}) {
  const seen = { claims: [] as string[], sweeps: 0, looks: 0, warnings: [] as string[] };
  const fake = { now: new Date('2026-01-01T10:30:00Z'), isAway: false, retries: [] as ClaimedRun[] };
  const away = () => new LoomError('database_unavailable', 'The database could not be reached.');
  const runOf = (kind: ClaimedRun['kind'], slot: Date): ClaimedRun => ({ id: 'r', kind, slot, attempt: 1, name: null });
  const ledger: Partial<RunLedger> = {
    readClock: async () => {
      seen.looks += 1;
      if (fake.isAway) throw away();
      return fake.now;
    },
    claimSlot: async (kind, slot) => {
      const claim = `${kind} ${slot.toISOString().slice(11, 16)}`;
      if (seen.claims.includes(claim)) return undefined;
      seen.claims.push(claim);
      return runOf(kind, slot);
    },
    claimRetry: async () => {
      const run = fake.retries.shift();
      if (run !== undefined) seen.claims.push(`retry ${run.slot.toISOString().slice(11, 16)}`);
      return run;
    },
    nextToProve: async () => 'a',
    readBackup: async () => ({ proven_at: provenAt }) as CatalogueEntry,
  };
  const runner: Pick<Runner, 'isBusy' | 'begin'> = {
    isBusy: () => false,
    begin: (async (claim: () => Promise<ClaimedRun | undefined>) => {
      const run = await claim();
      return run === undefined ? undefined : { run, ended: Promise.resolve().then(afterRun) };
    }) as Runner['begin'],
  };
  const log = createLogger({ level: 'warn', stream: { write: (line) => void seen.warnings.push(line) } });
  scheduler = createScheduler({
    ledger: ledger as RunLedger,
    runner: runner as Runner,
    schedule: hours,
    drillSchedule: drill,
    sweep: async () => {
      seen.sweeps += 1;
    },
    log,
    timing: { tickMs: 5, maxJitterMs: 1, sweepIntervalMs: HOUR_MS, recheckSlotMs },
  });
  scheduler.start();
  const looked = (more = 3): Promise<void> => {
    const goal = seen.looks + more;
    return expect.poll(() => seen.looks >= goal, { timeout: 20_000 }).toBe(true) as unknown as Promise<void>;
  };
  return { seen, fake, looked, runOf };
}

test('claims the last slot once, and of several missed ones only the last', async () => {
  const { seen, fake, looked } = createFakes();
  await looked();
  expect(seen.claims).toEqual(['scheduled 10:00']);
  fake.now = new Date('2026-01-01T14:59:59Z');
  await looked();
  expect(seen.claims).toEqual(['scheduled 10:00', 'scheduled 14:00']);
  expect(scheduler?.next().slot).toEqual(new Date('2026-01-01T15:00:00Z'));
});

test('claims a slot again whose row a failover has lost', async () => {
  const { seen, looked } = createFakes({ recheckSlotMs: 0 });
  await looked();
  seen.claims.length = 0;
  await looked();
  expect(seen.claims).toEqual(['scheduled 10:00']);
});

test('takes over earlier runs after the slot, and sweeps after each run', async () => {
  const { seen, fake, looked, runOf } = createFakes();
  fake.retries.push(runOf('scheduled', new Date('2026-01-01T09:00:00Z')));
  await looked();
  expect(seen.claims).toEqual(['scheduled 10:00', 'retry 09:00']);
  expect(seen.sweeps).toBe(2);
});

test('takes over, drills and sweeps also where each run takes longer than the pause between two slots', async () => {
  const { seen, fake, looked, runOf } = createFakes({
    drill: hours,
    afterRun: () => {
      fake.now = new Date(fake.now.getTime() + HOUR_MS);
    },
  });
  fake.retries.push(runOf('scheduled', new Date('2026-01-01T08:00:00Z')));
  await looked(6);
  expect(seen.claims.slice(0, 5)).toEqual([
    'scheduled 10:00',
    'retry 08:00',
    'drill 12:00',
    'scheduled 13:00',
    'drill 14:00',
  ]);
  expect(seen.sweeps).toBeGreaterThanOrEqual(4);
});

test('survives a database that is away, and says so once', async () => {
  const { seen, fake, looked } = createFakes();
  fake.isAway = true;
  await looked(5);
  fake.now = new Date('2026-01-01T11:00:00Z');
  fake.isAway = false;
  await looked();
  expect(seen.claims).toContain('scheduled 11:00');
  expect(seen.warnings).toHaveLength(1);
});

test('drills a backup unless its proof is newer than the slot of the drill', async () => {
  const older = createFakes({ provenAt: '2026-01-01T09:59:59.999999Z', drill: hours });
  await older.looked();
  expect(older.seen.claims).toEqual(['scheduled 10:00', 'drill 10:00']);
  await scheduler?.close();
  const newer = createFakes({ provenAt: '2026-01-01T10:00:00.000001Z', drill: hours });
  await newer.looked();
  expect(newer.seen.claims).toEqual(['scheduled 10:00']);
});
