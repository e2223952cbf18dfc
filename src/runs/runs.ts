// src/runs/ runs backups: it takes them by a schedule, proves them, deletes old ones, and removes what dead nodes left.
// It imports backup, domain, errors, limits and log. It receives the ledger, the object store and the verbs of the
// store as values. It must not know SQL, HTTP, or where objects lie.

import { setTimeout as sleep } from 'node:timers/promises';
import type { KeepPolicy } from '../backup/stored/retention.ts';
import type { Schedule } from '../backup/stored/schedule.ts';
import type { BackupRun, RunLedger, StartedRun, StoredBackups } from '../domain/backup-run.ts';
import type { ObjectStore } from '../domain/object-store.ts';
import { LoomError } from '../errors.ts';
import { limits } from '../limits.ts';
import type { Log } from '../log.ts';
import { findBackup, toStoredBackup } from './catalogue.ts';
import { deleteInTime, deleteObjects } from './deletion.ts';
import type { LeaseTiming } from './lease.ts';
import type { BackupVerbs, StoredKeys } from './parts.ts';
import { createPing } from './ping.ts';
import { createReader } from './reader.ts';
import { type Begun, createRunner } from './runner.ts';
import { createScheduler, type SchedulerTiming } from './scheduler.ts';
import { lookForOthers, storeShared } from './store/store-claim.ts';
import { assertSameStore } from './store/store-identity.ts';
import { createStoreWatch } from './store/store-watch.ts';
import { sweep } from './sweep.ts';

export interface StoredBackupsOptions {
  ledger: RunLedger;
  store: ObjectStore;
  verbs: BackupVerbs;
  stateKey: string;
  schedule: Schedule;
  drillSchedule: Schedule;
  /** Says which backups stay after a success. */
  policy: KeepPolicy;
  keys: StoredKeys;
  pingUrl?: string | undefined;
  log: Log;
  /** For tests. */
  timing?: Partial<RunTiming>;
}

export type RunTiming = SchedulerTiming & LeaseTiming;

const usualTiming: RunTiming = {
  tickMs: limits.runTickMs,
  maxJitterMs: limits.maxRunJitterMs,
  sweepIntervalMs: limits.sweepIntervalMs,
  recheckSlotMs: limits.recheckSlotMs,
  renewLeaseMs: limits.renewLeaseMs,
  leaseMs: limits.backupLeaseMs,
};

/** The stored backups of a node. `start` begins the schedule; without it, only requests begin runs. */
export interface StoredBackupsHandle extends StoredBackups {
  start(): void;
  /**
   * Aborts the run of this node, and ends its lease. Open requests can still read stored backups. Call it while the
   * database is still open. It may be repeated.
   */
  stop(): Promise<void>;
  /** Stops, and closes the store. */
  close(): Promise<void>;
}

/** Creates the verbs on stored backups, and the scheduler of a node. */
export function createStoredBackups(options: StoredBackupsOptions): StoredBackupsHandle {
  const { ledger, store, verbs, stateKey, keys, log, policy } = options;
  const timing = { ...usualTiming, ...options.timing };
  const parts = { ledger, store, verbs, stateKey, keys, log };
  const watch = createStoreWatch(parts);
  const ping = createPing(options.pingUrl, log);
  const runner = createRunner({ parts, timing, policy, ping, onFault: watch.note, onSuccess: watch.noteSuccess });
  const { schedule, drillSchedule } = options;
  const sweepAll = (signal: AbortSignal): Promise<void> =>
    sweep(parts, signal).catch((error: unknown) => {
      watch.note(error);
      throw error;
    });
  const scheduler = createScheduler({ ledger, runner, schedule, drillSchedule, sweep: sweepAll, log, timing });
  const closing = new AbortController();
  let stopped: Promise<void> | undefined;

  async function stop(): Promise<void> {
    closing.abort(shuttingDown());
    const parted = Promise.all([runner.close(), scheduler.close(), watch.close(), ping.close()]);
    const done = new AbortController();
    await Promise.race([parted, sleep(limits.closeRunsMs, undefined, { signal: done.signal }).catch(() => undefined)]);
    done.abort();
  }

  function stopOnce(): Promise<void> {
    stopped ??= stop();
    return stopped;
  }

  return {
    store: store.address,
    list: async ({ limit, before }) => (await ledger.listBackups({ limit, before })).map(toStoredBackup),
    listRuns: (query) => ledger.listRuns(query),
    readRun: (id) => ledger.readRun(id),
    take: async () => toStarted(ledger, await runner.begin(() => ledger.claimNow('manual'))),
    drill: async (name) => toStarted(ledger, await runner.begin(() => ledger.claimNow('drill', name))),
    ...createReader(parts),
    remove: async (name) => {
      const { isOwn } = await findBackup(ledger, name);
      await deleteInTime(parts, closing.signal, async (signal) => {
        const storeId = await assertSameStore(parts, signal);
        if (!isOwn && storeId !== undefined && (await lookForOthers(parts, storeId, signal)).isShared)
          throw storeShared(parts);
        if (!(await ledger.beginDeletion(name))) throw stillNeeded(name);
        await deleteObjects(parts, name, signal);
      });
    },
    observe: async () => {
      const { slot, drill } = scheduler.next();
      return {
        ...(await ledger.observe()),
        store: store.address,
        storeFault: watch.fault(),
        storeIsUp: watch.isUp(),
        nextSlotAt: slot?.toISOString() ?? null,
        nextDrillAt: drill?.toISOString() ?? null,
      };
    },
    start: () => {
      watch.start();
      scheduler.start();
    },
    stop: stopOnce,
    close: async () => {
      await stopOnce();
      await store.close();
    },
  };
}

/** Returns a run as routes show it. `ended` rejects if the database does not answer then. */
async function toStarted(ledger: RunLedger, { run, ended }: Begun): Promise<StartedRun> {
  const after = ended.then(() => readRun(ledger, run.id));
  // A route that does not wait for the end never looks at it.
  after.catch(() => undefined);
  return { run: await readRun(ledger, run.id), ended: after };
}

async function readRun(ledger: RunLedger, id: string): Promise<BackupRun> {
  const run = await ledger.readRun(id);
  if (run !== undefined) return run;
  throw new LoomError('run_not_found', `There is no run ${JSON.stringify(id)}. It may be too old to be kept.`);
}

function shuttingDown(): LoomError {
  return new LoomError(
    'draining',
    'The node is shutting down. A deletion that has begun is finished by the next sweep.',
    { retryAfterSeconds: 1 },
  );
}

function stillNeeded(name: string): LoomError {
  return new LoomError(
    'stored_backup_kept',
    `The stored backup ${JSON.stringify(name)} is the newest proven one or the last one, or a run is writing or proving ` +
      'it. Take and prove a newer backup first, or wait for the run to end.',
  );
}
