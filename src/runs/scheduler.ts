import { setTimeout as sleep } from 'node:timers/promises';
import type { Schedule } from '../backup/stored/schedule.ts';
import type { ClaimedRun, RunLedger } from '../domain/backup-run.ts';
import { isLoomError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Runner } from './runner.ts';

export interface SchedulerOptions {
  ledger: RunLedger;
  runner: Runner;
  schedule: Schedule;
  drillSchedule: Schedule;
  /** Removes what dead nodes left behind. Called at the start, after each run, and from time to time. */
  sweep(signal: AbortSignal): Promise<void>;
  log: Log;
  timing: SchedulerTiming;
}

export interface SchedulerTiming {
  tickMs: number;
  maxJitterMs: number;
  sweepIntervalMs: number;
  /** After this time, a node claims a slot again that it has found claimed. */
  recheckSlotMs: number;
}

/** Begins the runs that are due, by the database's clock. */
export interface Scheduler {
  start(): void;
  /** Returns the next times of both schedules; null before the node has read the database's clock. */
  next(): { slot: Date | null; drill: Date | null };
  close(): Promise<void>;
}

export function createScheduler(options: SchedulerOptions): Scheduler {
  const { ledger, runner, schedule, drillSchedule, log, timing } = options;
  const closing = new AbortController();
  const due = createDueRuns(options);
  const clock = createClock(ledger);
  const sweeps = createSweeps(options, closing.signal);
  let failing: string | undefined;
  let looping: Promise<void> | undefined;

  /** Returns how long to wait for the next look. */
  async function look(): Promise<number> {
    const now = await clock.read();
    if (!runner.isBusy()) {
      const begun = await runner.begin(() => due.claim(now)).catch(ignoreBusy);
      if (begun !== undefined) {
        await begun.ended;
        sweeps.want();
        // Before the next run: where runs take longer than the pause between two slots, one is always due.
        await sweeps.run();
        return 0;
      }
      await sweeps.run();
    }
    const next = schedule.nextSlot(now)?.getTime() ?? Number.POSITIVE_INFINITY;
    return Math.max(0, Math.min(timing.tickMs, next - now.getTime())) + Math.random() * timing.maxJitterMs;
  }

  async function loop(): Promise<void> {
    while (!closing.signal.aborted) {
      let pauseMs = timing.tickMs;
      try {
        pauseMs = await look();
        if (failing !== undefined) log.info('the node looks for due backup runs again');
        failing = undefined;
      } catch (error) {
        if (closing.signal.aborted) return;
        const code = isLoomError(error) ? error.code : 'internal';
        // Once for each condition: a database that is away would fill the log.
        if (code !== failing) log.warn({ err: error, code }, 'the node could not look for due backup runs');
        failing = code;
      }
      await sleep(pauseMs, undefined, { signal: closing.signal }).catch(() => undefined);
    }
  }

  return {
    start: () => {
      looping ??= loop();
    },
    next: () => {
      const now = clock.estimate();
      if (now === undefined) return { slot: null, drill: null };
      return { slot: schedule.nextSlot(now) ?? null, drill: drillSchedule.nextSlot(now) ?? null };
    },
    close: async () => {
      closing.abort();
      await looping;
    },
  };
}

/** A request has begun a run between two statements of the look. */
function ignoreBusy(error: unknown): undefined {
  if (isLoomError(error) && error.code === 'backup_running') return undefined;
  throw error;
}

/**
 * Claims what is due: the last slot, a run to take over or to attempt again, or a drill. They take turns. Where backups
 * take longer than the pause between two slots, a slot is always due, and the others would wait forever.
 */
function createDueRuns({ ledger, schedule, drillSchedule, timing }: SchedulerOptions) {
  const scheduled = createSettled(timing.recheckSlotMs);
  const drills = createSettled(timing.recheckSlotMs);

  async function claimScheduled(now: Date): Promise<ClaimedRun | undefined> {
    const slot = schedule.lastSlot(now);
    if (slot === undefined || scheduled.has(slot)) return undefined;
    const run = await ledger.claimSlot('scheduled', slot);
    scheduled.set(slot);
    return run;
  }

  async function claimDrill(now: Date): Promise<ClaimedRun | undefined> {
    const slot = drillSchedule.lastSlot(now);
    if (slot === undefined || drills.has(slot)) return undefined;
    const name = await ledger.nextToProve();
    // Without a name, there is nothing to prove at this slot.
    const isDue = name !== undefined && (await isUnprovenSince(ledger, name, slot));
    const run = isDue ? await ledger.claimSlot('drill', slot, name) : undefined;
    drills.set(slot);
    return run;
  }

  const claims = [claimScheduled, (): Promise<ClaimedRun | undefined> => ledger.claimRetry(), claimDrill];

  return {
    claim: async (now: Date): Promise<ClaimedRun | undefined> => {
      for (const [index, claim] of claims.entries()) {
        const run = await claim(now);
        if (run === undefined) continue;
        claims.push(...claims.splice(0, index + 1));
        return run;
      }
      return undefined;
    },
  };
}

/**
 * Remembers the slot that this node need not claim again for now: it has it, or another node has. Not forever: a
 * failover to a standby can lose the row of the slot.
 */
function createSettled(recheckMs: number) {
  let slotMs = Number.NaN;
  let atMs = 0;
  return {
    has: (slot: Date): boolean => slot.getTime() === slotMs && performance.now() - atMs < recheckMs,
    set: (slot: Date): void => {
      slotMs = slot.getTime();
      atMs = performance.now();
    },
  };
}

/**
 * Returns whether the backup that is next to prove has no proof since `slot`. If it has one, all others have been tried
 * since then, too, so the slot needs no drill.
 */
async function isUnprovenSince(ledger: RunLedger, name: string, slot: Date): Promise<boolean> {
  const backup = await ledger.readBackup(name);
  const provenAt = backup?.proven_at ?? null;
  return provenAt === null || new Date(provenAt) < slot;
}

/** Reads the database's clock, and estimates it between two reads. */
function createClock(ledger: Pick<RunLedger, 'readClock'>) {
  let last: { now: Date; atMs: number } | undefined;
  return {
    read: async (): Promise<Date> => {
      const now = await ledger.readClock();
      last = { now, atMs: performance.now() };
      return now;
    },
    estimate: (): Date | undefined =>
      last === undefined ? undefined : new Date(last.now.getTime() + performance.now() - last.atMs),
  };
}

/** Runs a sweep at the start, after each run, and from time to time. */
function createSweeps({ sweep, log, timing }: SchedulerOptions, signal: AbortSignal) {
  let isWanted = true;
  let lastMs = Number.NEGATIVE_INFINITY;
  return {
    want: (): void => {
      isWanted = true;
    },
    run: async (): Promise<void> => {
      if (!isWanted && performance.now() - lastMs < timing.sweepIntervalMs) return;
      isWanted = false;
      lastMs = performance.now();
      try {
        await sweep(signal);
      } catch (error) {
        if (signal.aborted) return;
        log.warn({ err: error }, 'the leftovers of earlier backup runs could not be removed yet');
      }
    },
  };
}
