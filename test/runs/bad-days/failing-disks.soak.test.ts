import { mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { parseKeepPolicy } from '../../../src/backup/stored/retention.ts';
import { limits } from '../../../src/limits.ts';
import { createFileStore } from '../../../src/object-store/file/file-store.ts';
import { createOperations } from '../../../src/persistence/activity/operations.ts';
import { createStore } from '../../../src/persistence/store.ts';
import { readCatalogue } from '../../../src/runs/catalogue.ts';
import {
  type BackupNode,
  type BackupSite,
  openBackupSite,
  sweepAs,
  takeProven,
} from '../../setup/backups/backup-node.ts';
import { expectCatalogueIsTrue, expectNothingLost } from '../../setup/backups/catalogue-check.ts';
import { byHours, failFor, openCourse, recover } from '../../setup/backups/course.ts';
import { openRunProcesses } from '../../setup/backups/processes.ts';
import { withStops } from '../../setup/backups/stops.ts';
import { mountStoreDisk, type StoreDisk, whyNoMounts } from '../../setup/backups/store-disk.ts';

const HOUR_MS = 3_600_000;
const KEEP = 2;

const close: (() => unknown)[] = [];
afterEach(async () => {
  for (const one of close.splice(0).reverse()) await one();
});

/** Creates a site whose store is a disk that the test mounted. */
async function openDisk(kind: 'tmpfs' | 'ext4'): Promise<{ site: BackupSite; disk: StoreDisk; directory: string }> {
  const site = await openBackupSite();
  close.push(site.close);
  if (site.objects.options.kind !== 'file') throw new Error('the store is a folder');
  const { directory } = site.objects.options;
  const disk = await mountStoreDisk(directory, kind);
  close.push(disk.remove);
  return { site, disk, directory };
}

const reason = await whyNoMounts();

/** Registers a test that mounts disks. Where it cannot, the test shows that, and its name says why. */
function testWithDisks(title: string, check: () => Promise<void>, timeoutMs: number): void {
  if (reason === undefined) test(title, check, timeoutMs);
  else test(`${title} (does not run: ${reason})`, () => expect(reason).toContain('mount'));
}

/** Replaces the mounted disk by something else under its name, until the returned function is called. */
async function replaceBy(disk: StoreDisk, directory: string, make: () => Promise<unknown>) {
  disk.unmount();
  await rm(directory, { recursive: true });
  await make();
  return async (): Promise<void> => {
    await rm(directory, { recursive: true });
    await mkdir(directory);
    disk.mount();
  };
}

/** Returns the names once retention, which follows the end of a run, has left one backup and its manifest. */
async function namesAfterRetention(site: BackupSite): Promise<string[]> {
  await expect.poll(() => site.objects.names(), { timeout: 20_000 }).toHaveLength(2);
  return await site.objects.names();
}

interface Failure {
  what: string;
  codes: string[];
  /** Makes the disk fail. Returns what repairs it. */
  make(disk: StoreDisk, directory: string): Promise<() => unknown>;
}

const failures: Failure[] = [
  {
    what: 'read-only',
    codes: ['store_refused'],
    make: async (disk) => {
      disk.setReadOnly(true);
      return () => disk.setReadOnly(false);
    },
  },
  {
    what: 'full',
    codes: ['store_full'],
    make: async (disk) => {
      disk.fill();
      return disk.free;
    },
  },
  {
    what: 'out of inodes',
    codes: ['store_full'],
    make: async (disk) => {
      await disk.useUpInodes();
      return disk.free;
    },
  },
  {
    what: 'not mounted',
    codes: ['store_failed'],
    make: async (disk) => {
      disk.unmount();
      return disk.mount;
    },
  },
  {
    what: 'a file',
    codes: ['store_unreachable'],
    make: (disk, directory) => replaceBy(disk, directory, () => writeFile(directory, '')),
  },
  {
    what: 'a link to an empty folder',
    codes: ['store_failed'],
    make: async (disk, directory) => {
      await mkdir(`${directory}-other`, { recursive: true });
      close.push(() => rm(`${directory}-other`, { recursive: true, force: true }));
      return await replaceBy(disk, directory, () => symlink(`${directory}-other`, directory));
    },
  },
  {
    what: 'a link to itself',
    codes: ['store_unreachable'],
    make: (disk, directory) => replaceBy(disk, directory, () => symlink(directory, directory)),
  },
];

describe('while the disk of the store fails, nothing is deleted and nothing is written elsewhere', () => {
  testWithDisks(
    `a disk that is ${failures.map(({ what }) => what).join(', ')}`,
    async () => {
      const { site, disk, directory } = await openDisk('tmpfs');
      const course = await openCourse(site, { store: site.objects.open(), ...byHours, onScrape: () => undefined });
      expect(await course.passSlot()).toMatchObject([{ outcome: 'proven' }]);
      const before = await namesAfterRetention(site);
      for (const { codes, make } of failures) {
        const repair = await make(disk, directory);
        await failFor(course, 1, async () => codes);
        await repair();
        expect(await site.objects.names()).toEqual(before);
      }
      await recover(course);
      disk.unmount();
      expect(await readdir(directory)).toEqual([]);
      disk.mount();
    },
    300_000,
  );

  testWithDisks(
    'a disk that is full only when a file is synced',
    async () => {
      const { site, disk } = await openDisk('ext4');
      const course = await openCourse(site, { store: site.objects.open(), ...byHours, onScrape: () => undefined });
      await fillDocuments(course.at);
      expect(await course.passSlot()).toMatchObject([{ outcome: 'proven' }]);
      const before = await namesAfterRetention(site);
      disk.fill();
      await failFor(course, 1, async () => ['store_full', 'store_failed']);
      expect(await site.objects.names()).toEqual(before);
      await disk.free();
      await recover(course);
    },
    300_000,
  );

  testWithDisks(
    'a disk whose writes never return, while the node serves',
    async () => {
      const { site, disk, directory } = await openDisk('ext4');
      const store = createFileStore({ directory, callTimeoutMs: 1_000 });
      const at = await site.open({ store, policy: parseKeepPolicy('last=1') });
      await at.node.put('a', 1);
      const good = await takeProven(at);
      disk.freeze(true);
      try {
        const run = await (await at.runs.take()).ended;
        expect(run).toMatchObject({ outcome: 'failed', code: 'store_unreachable' });
        expect(run.detail).toContain('has not returned within 1 s');
        await at.node.put('a', 2);
        expect(await at.runs.observe()).toMatchObject({ storeIsUp: false });
        // A further run does not take another thread.
        expect(await (await at.runs.take()).ended).toMatchObject({ code: 'store_unreachable' });
        expect(await at.node.state()).toEqual({ a: 2 });
      } finally {
        disk.freeze(false);
      }
      expect(await at.ledger.readBackup(good)).toMatchObject({ fault: null, deletionBegunAt: null });
      // The late calls have ended, and removed what they had made.
      await expect.poll(async () => (await (await at.runs.take()).ended).outcome, { timeout: 60_000 }).toBe('proven');
      await sweepAs(at, site, 2 * HOUR_MS);
      await expectCatalogueIsTrue(site, await site.open());
    },
    120_000,
  );
});

/** Fills the state so that its backup has some megabytes. */
async function fillDocuments({ node }: BackupNode): Promise<void> {
  for (let index = 0; index < 8; index += 1) {
    const text = Array.from({ length: 40_000 }, () => Math.random().toString(36).slice(2)).join('');
    await node.put(`document-${index}`, text);
  }
}

describe('a disk that is unmounted in the middle of a run and of its retention', () => {
  testWithDisks(
    'leaves nothing wrong, at any step, and the folder below stays empty',
    async () => {
      const { site, disk, directory } = await openDisk('tmpfs');
      const at = await site.open({ policy: parseKeepPolicy(`last=${KEEP}`) });
      for (let index = 0; index < 5; index += 1) await at.node.put(`document-${index}`, 'x'.repeat(10_000));
      for (let count = 0; count < KEEP; count += 1) await takeProven(at);
      const steps = new Set<string>();
      await takeWithSteps(site, at, async (step) => void steps.add(step));
      expect(steps).toContain('amid put of a backup');
      expect(steps).toContain('after delete of a manifest');
      for (const [index, step] of [...steps].entries()) {
        let isMounted = true;
        await takeWithSteps(site, at, async (reached) => {
          if (reached !== step || !isMounted) return;
          isMounted = false;
          // Files may be open. Otherwise the usual unmount works, too.
          disk.unmount({ lazy: index % 2 === 0 || step.startsWith('amid') });
        });
        expect(isMounted, step).toBe(false);
        expect(await readdir(directory), step).toEqual([]);
        disk.mount();
        await expectNothingLost(site, at, step);
        await sweepAs(at, site, 2 * HOUR_MS);
        // An unproven backup stays until this many newer ones are proven.
        for (let count = 0; count < KEEP; count += 1) await takeProven(at);
        await sweepAs(at, site, 2 * HOUR_MS);
        expect(await readCatalogue(at.ledger), step).toHaveLength(KEEP);
        await expectCatalogueIsTrue(site, at);
      }
    },
    300_000,
  );
});

/** Takes a backup on a node that calls `reach` at each step of its run and of its retention. */
async function takeWithSteps(site: BackupSite, { node }: BackupNode, reach: (step: string) => Promise<void>) {
  const verbs = createStore({
    database: node.database,
    stateKey: node.stateKey,
    maxDocumentBytes: limits.maxDocumentBytes,
    migrations: [],
    operations: createOperations(),
  });
  const { ledger } = await site.open();
  const parts = withStops({ ledger, store: site.objects.open(), verbs }, { reach });
  const stepped = await site.open({ ...parts, policy: parseKeepPolicy(`last=${KEEP}`) });
  await (await stepped.runs.take()).ended;
  await stepped.close();
}

const NOBODY = 65_534;

test('a folder of somebody else: the run fails, and nothing changes', async () => {
  if (process.getuid?.() !== 0)
    return console.warn('The test of a folder of somebody else does not run: it needs root.');
  const site = await openBackupSite();
  close.push(site.close);
  const at = await site.open();
  await at.node.put('a', 1);
  const name = await takeProven(at);
  const before = await site.objects.names();
  const processes = await openRunProcesses(site, { leaseMs: 10_000, keep: 1 });
  close.push(processes.close);
  for (const order of [{ verb: 'take' }, { verb: 'drill', name }] as const) {
    const other = processes.start({ order, uid: NOBODY });
    await expect.poll(() => other.output().split('\n').includes('done'), { timeout: 60_000 }).toBe(true);
    await other.kill();
    const [run] = await at.ledger.listRuns({ limit: 1 });
    expect(run).toMatchObject({ outcome: 'failed', code: 'store_refused' });
  }
  expect(await site.objects.names()).toEqual(before);
  expect(await at.ledger.readBackup(name)).toMatchObject({ fault: null, proven_at: expect.any(String) });
}, 120_000);
