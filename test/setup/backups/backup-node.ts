// Room `backups`: nodes that take and prove stored backups, in the process of the test and in processes of their own.
// It may import `node`, `object-store` and `server`.

import { randomUUID } from 'node:crypto';
import { expect } from 'vitest';
import type { Schedule } from '../../../src/backup/stored/schedule.ts';
import type { RunLedger } from '../../../src/domain/backup-run.ts';
import type { ObjectStore } from '../../../src/domain/object-store.ts';
import { limits } from '../../../src/limits.ts';
import { createLogger } from '../../../src/log.ts';
import { createOperations } from '../../../src/persistence/activity/operations.ts';
import { createRunLedger } from '../../../src/persistence/runs/ledger.ts';
import { createStore } from '../../../src/persistence/store.ts';
import { createStoredBackups, type StoredBackupsHandle, type StoredBackupsOptions } from '../../../src/runs/runs.ts';
import { claimStore } from '../../../src/runs/store/store-identity.ts';
import { sweep } from '../../../src/runs/sweep.ts';
import { openTestStore, type TestStore } from '../node/store.ts';
import { createTestStore, type StoreKind, type TestStore as TestObjects } from '../object-store/object-store.ts';
import { createTestDatabase, type TestDatabase } from '../server/database.ts';
import { moveClock, moveSnapshots } from './moved-clock.ts';

/** A node that takes and proves backups, without HTTP. */
export interface BackupNode {
  node: TestStore;
  ledger: RunLedger;
  runs: StoredBackupsHandle;
  close(): Promise<void>;
}

export interface BackupSite {
  database: TestDatabase;
  objects: TestObjects;
  /** Opens another node of the site. */
  open(options?: Partial<StoredBackupsOptions> & LedgerTiming): Promise<BackupNode>;
  close(): Promise<void>;
}

interface LedgerTiming {
  leaseMs?: number;
  backoffMs?: number;
  /** Returns how far the clock of the runs is ahead of that of the database. */
  aheadMs?(): number;
  /** Replaces verbs of the ledger. */
  wrapLedger?(ledger: RunLedger): RunLedger;
}

/** A schedule that never fires: only requests begin runs. */
export const never: Schedule = { lastSlot: () => undefined, nextSlot: () => undefined };

/** A schedule that fires every `ms`. */
export function every(ms: number): Schedule {
  const at = (time: number): Date => new Date(time - (time % ms));
  return { lastSlot: (now) => at(now.getTime()), nextSlot: (now) => at(now.getTime() + ms) };
}

/** Timing for tests, with which a run is found soon. */
export const fastTiming = { tickMs: 100, maxJitterMs: 50, sweepIntervalMs: 3_600_000, renewLeaseMs: 300 };

/** Takes a stored backup, and returns its name when it is proven. */
export async function takeProven({ runs }: BackupNode): Promise<string> {
  const run = await (await runs.take()).ended;
  expect(run).toMatchObject({ outcome: 'proven' });
  return String(run.name);
}

/** Creates a database and a backup store for any number of nodes. */
export async function openBackupSite(kind: StoreKind = 'file'): Promise<BackupSite> {
  const [database, objects] = await Promise.all([createTestDatabase(), createTestStore(kind)]);
  const open: BackupNode[] = [];
  return {
    database,
    objects,
    open: async (options = {}) => {
      const node = await openBackupNode(database.url, objects.open(), options);
      open.push(node);
      return node;
    },
    close: async () => {
      await Promise.all(open.map((node) => node.close()));
      await database.drop();
      await objects.remove();
    },
  };
}

/** Opens a node on a database and a store. By default, it has no schedule, and keeps every backup. */
export async function openBackupNode(
  url: string,
  store: ObjectStore,
  { leaseMs, backoffMs, aheadMs = () => 0, wrapLedger, ...options }: Partial<StoredBackupsOptions> & LedgerTiming = {},
): Promise<BackupNode> {
  const node = await openTestStore(url);
  const timing = { ...(leaseMs === undefined ? {} : { leaseMs }), ...(backoffMs === undefined ? {} : { backoffMs }) };
  // Without the check of a route's codes: a run has others.
  const verbs = createStore({
    database: node.database,
    stateKey: node.stateKey,
    maxDocumentBytes: limits.maxDocumentBytes,
    migrations: [],
    operations: createOperations(),
  });
  const clocked = moveClock(node.database, aheadMs);
  const own = createRunLedger(clocked, { stateKey: node.stateKey, node: randomUUID(), ...timing });
  const moved = moveSnapshots(own, aheadMs);
  const ledger = wrapLedger?.(moved) ?? moved;
  const runs = createStoredBackups({
    ledger,
    store,
    verbs,
    stateKey: node.stateKey,
    schedule: never,
    drillSchedule: never,
    policy: 'all',
    keys: { recipients: [], identities: [] },
    log: createLogger({ level: 'silent' }),
    timing: { ...fastTiming, ...(leaseMs === undefined ? {} : { leaseMs, renewLeaseMs: leaseMs / 5 }) },
    ...options,
  });
  let closed: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    await runs.close();
    await node.close();
  };
  return {
    node,
    ledger,
    runs,
    close: () => {
      closed ??= close();
      return closed;
    },
  };
}

/** Returns the id of the store, as a run does before it names its backup. */
export function claimStoreAs({ ledger, node }: BackupNode, { objects }: BackupSite): Promise<string> {
  const parts = { ledger, store: objects.open(), stateKey: node.stateKey };
  return claimStore(parts, new AbortController().signal);
}

/** Sweeps as this node does, with its clock this much ahead. */
export async function sweepAs(
  { ledger, node }: BackupNode,
  { objects }: BackupSite,
  aheadMs = 0,
  store = objects.open(),
): Promise<void> {
  const readClock = async (): Promise<Date> => new Date((await ledger.readClock()).getTime() + aheadMs);
  const parts = {
    verbs: node.store,
    stateKey: node.stateKey,
    keys: { recipients: [], identities: [] },
    ledger: { ...ledger, readClock },
    store,
    log: createLogger({ level: 'silent' }),
  };
  await sweep(parts, new AbortController().signal);
}
