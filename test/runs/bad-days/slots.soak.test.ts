import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { type BackupNode, type BackupSite, openBackupSite } from '../../setup/backups/backup-node.ts';
import { expectCatalogueIsTrue } from '../../setup/backups/catalogue-check.ts';
import { openRunProcesses, type RunProcess, type RunProcesses } from '../../setup/backups/processes.ts';
import { seededRandom, seedLabel } from '../../setup/depth.ts';
import { waitUntil } from '../../setup/node/program.ts';

const SLOTS = 60;
const NODES = 3;
const SLOT_MS = 1_000;
const LEASE_MS = 3_000;
const HOUR_MS = 3_600_000;
/** A kill may come at any time of a run. */
const MAX_KILL_MS = 600;

interface Slot {
  proven: number;
  running: number;
}

/** Returns the slots of the schedule, by their time. */
async function readSlots({ database }: BackupSite): Promise<Map<number, Slot>> {
  const { rows } = await database.pool.query<Slot & { slot: Date }>(
    `select slot, count(*) filter (where outcome = 'proven')::int as proven,
            count(*) filter (where outcome = 'running')::int as running
       from loom_backup_run where kind = 'scheduled' group by slot order by slot`,
  );
  return new Map(rows.map(({ slot, ...counts }) => [slot.getTime(), counts]));
}

test(`${NODES} nodes, killed at random, run each of ${SLOTS} slots exactly once`, async () => {
  const random = seededRandom('slots');
  const site = await openBackupSite();
  const observer = await site.open({ leaseMs: LEASE_MS });
  for (let index = 0; index < 20; index += 1) await observer.node.put(`document-${index}`, 'x'.repeat(1_000));
  const processes = await openRunProcesses(site, { leaseMs: LEASE_MS, keep: 5 });
  try {
    const base = Math.floor(Date.now() / SLOT_MS) * SLOT_MS;
    await processes.setClock(base);
    const nodes: RunProcess[] = Array.from({ length: NODES }, () => processes.start());
    for (let index = 1; index <= SLOTS; index += 1) {
      const slot = base + index * SLOT_MS;
      await processes.setClock(slot);
      const victim = random.integer(0, NODES - 1);
      // About every second slot loses a node, at any moment of its run.
      if (random.integer(0, 1) === 0 || index === 1) {
        await sleep(random.integer(0, MAX_KILL_MS));
        await nodes[victim]?.kill();
        nodes[victim] = processes.start();
      }
      await waitUntil(
        () => readSlots(site),
        (slots) => slots.has(slot),
      );
    }
    const slots = await waitUntil(
      () => readSlots(site),
      (seen) => [...seen.values()].every(({ proven, running }) => proven === 1 && running === 0),
      120_000,
    );
    for (let index = 1; index <= SLOTS; index += 1) {
      expect(slots.get(base + index * SLOT_MS), seedLabel).toMatchObject({ proven: 1 });
    }
    await settle(site, observer, processes, base + SLOTS * SLOT_MS);
  } finally {
    await processes.close();
    await site.close();
  }
}, 600_000);

/** Lets the nodes remove what the dead ones left, with the clock moved by hours, and checks what remains. */
async function settle(site: BackupSite, observer: BackupNode, processes: RunProcesses, now: number): Promise<void> {
  await site.objects.abandon('loom-default-20260101T000000.000Z-r1.json.gz');
  await processes.setClock(now + 2 * HOUR_MS);
  // The later slot that is due now begins a last run.
  await waitUntil(
    async () => ({ names: await site.objects.names(), slots: [...(await readSlots(site))] }),
    ({ names, slots }) =>
      names.every((name) => !name.startsWith('.')) &&
      slots.some(([slot, { proven }]) => slot > now && proven === 1) &&
      slots.every(([, { running }]) => running === 0),
    60_000,
  );
  await expectCatalogueIsTrue(site, observer);
}
