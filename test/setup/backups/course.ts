import { expect } from 'vitest';
import { parseKeepPolicy } from '../../../src/backup/stored/retention.ts';
import type { ObjectStore } from '../../../src/domain/object-store.ts';
import { createMetrics, type Metrics } from '../../../src/metrics.ts';
import { readCatalogue } from '../../../src/runs/catalogue.ts';
import type { StoredBackupsHandle } from '../../../src/runs/runs.ts';
import { waitUntil } from '../node/program.ts';
import { idleNode } from '../values/idle-metrics.ts';
import { type BackupNode, type BackupSite, every } from './backup-node.ts';

const HOUR_MS = 3_600_000;

export interface Attempt {
  outcome: string;
  code: string | null;
}

/** Hours or days of a node, which the test lets pass. */
export interface Course {
  at: BackupNode;
  /** Returns the time. */
  now(): number;
  /** Puts the clock of the database ahead of the time, by whole slots. Waits for the run that is due by then. */
  setClockError(ms: number): Promise<void>;
  /** Lets the time of one slot pass. Returns the attempts at the slot that came. */
  passSlot(): Promise<Attempt[]>;
  /** Ends the node, fails one scrape, and starts another one with this store. */
  restart(store: ObjectStore): Promise<void>;
}

export interface CourseOptions {
  store: ObjectStore;
  slotMs: number;
  /** Time between two scrapes. */
  sampleMs: number;
  /** Receives what the node answers to a scrape; undefined if there is no node. */
  onScrape(atMs: number, text: string | undefined): void;
}

/** Starts a node with a clock that the test moves. Its retention keeps one backup. */
export async function openCourse(site: BackupSite, options: CourseOptions): Promise<Course> {
  const { slotMs, sampleMs, onScrape } = options;
  // It begins in the middle of a slot, so that no slot comes at the time of a scrape.
  let aheadMs = slotMs - ((Date.now() + slotMs / 2) % slotMs);
  let errorMs = 0;
  let metrics: Metrics | undefined;

  async function start(store: ObjectStore): Promise<BackupNode> {
    const schedule = every(slotMs);
    const node = await site.open({
      store,
      backoffMs: 1,
      aheadMs: () => aheadMs + errorMs,
      schedule,
      policy: parseKeepPolicy('last=1'),
    });
    metrics = watchRuns(node.runs);
    node.runs.start();
    return node;
  }

  const startOf = (ms: number): number => ms - (ms % slotMs);
  // The database is on this machine.
  const now = (): number => Date.now() + aheadMs;
  const lastSlot = (): number => startOf(now()) + errorMs;
  const scrape = async (): Promise<void> => onScrape(now(), (await metrics?.scrape())?.text);
  const course: Course = {
    at: await start(options.store),
    now,
    setClockError: async (ms) => {
      errorMs = ms;
      await endOfSlot(site, lastSlot());
    },
    passSlot: async () => {
      const from = now() + errorMs;
      let attempts: Attempt[] = [];
      for (let passed = 0; passed < slotMs; passed += sampleMs) {
        aheadMs += sampleMs;
        const slot = lastSlot();
        if (slot > from + passed) attempts = await endOfSlot(site, slot);
        await scrape();
      }
      return attempts;
    },
    restart: async (store) => {
      await course.at.close();
      metrics?.close();
      aheadMs += sampleMs;
      onScrape(now(), undefined);
      course.at = await start(store);
      await endOfSlot(site, lastSlot());
      aheadMs += sampleMs;
      await scrape();
    },
  };
  await course.at.node.put('a', 1);
  // A run that is running would lose its lease when the clock moves.
  await endOfSlot(site, lastSlot());
  return course;
}

function watchRuns(runs: StoredBackupsHandle): Metrics {
  const metrics = createMetrics();
  metrics.watch({
    ...idleNode,
    readStoredBackups: () => runs.observe(),
  });
  return metrics;
}

/** Waits until the slot has no further attempt. */
async function endOfSlot({ database }: BackupSite, slot: number): Promise<Attempt[]> {
  const rows = await waitUntil(
    async () => {
      const found = await database.pool.query<Attempt & { open: boolean }>(
        `select outcome, code, outcome = 'running' or retry_at is not null as open from loom_backup_run
          where state_key = 'default' and kind = 'scheduled' and slot = $1 order by attempt`,
        [new Date(slot)],
      );
      return found.rows;
    },
    (found) => found.length > 0 && found.every(({ open }) => !open),
    120_000,
  );
  return rows.map(({ outcome, code }) => ({ outcome, code }));
}

/**
 * Lets slots pass while the store fails, each with the fault that `faultOf` makes. Asserts that each has three failed
 * attempts with one of the codes that it returns, and that the catalogue stays as before. Returns the newest backup.
 */
export async function failFor(course: Course, slots: number, faultOf: (slot: number) => Promise<string[]>) {
  const good = (await readCatalogue(course.at.ledger)).find(({ proven_at: provenAt }) => provenAt !== null);
  const before = await course.at.runs.observe();
  expect(good).toBeDefined();
  for (let slot = 1; slot <= slots; slot += 1) {
    const codes = await faultOf(slot);
    const attempts = await course.passSlot();
    expect(attempts, `slot ${slot}`).toHaveLength(3);
    for (const { outcome, code } of attempts) {
      expect(outcome, `slot ${slot}`).toBe('failed');
      expect(codes, `slot ${slot}`).toContain(code);
    }
    await course.at.node.put('a', slot);
    const { lastSuccessAt, lastProvenAt, lastFailure, storeIsUp } = await course.at.runs.observe();
    // The age of the last success and of the last proof grows.
    expect({ lastSuccessAt, lastProvenAt }).toEqual({
      lastSuccessAt: before.lastSuccessAt,
      lastProvenAt: before.lastProvenAt,
    });
    expect(lastFailure?.detail).toEqual(expect.any(String));
    expect(storeIsUp).toBe(false);
  }
  const name = String(good?.name);
  const after = await course.at.ledger.readBackup(name);
  expect(after).toMatchObject({ proven_at: good?.proven_at, deletionBegunAt: null, fault: null });
  return name;
}

/** Asserts that the next slot succeeds, and that afterwards only its backup is left, as the policy says. */
export async function recover(course: Course): Promise<void> {
  expect(await course.passSlot()).toMatchObject([{ outcome: 'proven' }]);
  await waitUntil(
    () => readCatalogue(course.at.ledger),
    (catalogue) => catalogue.length === 1,
  );
}

/** The time between two slots of a course by days, or by hours, and between its scrapes. */
export const byDays = { slotMs: 24 * HOUR_MS, sampleMs: HOUR_MS };
export const byHours = { slotMs: HOUR_MS, sampleMs: HOUR_MS / 6 };
