import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'vitest';
import { readCatalogue } from '../../../src/runs/catalogue.ts';
import { type BackupSite, openBackupSite } from '../../setup/backups/backup-node.ts';
import { expectCatalogueIsTrue, expectNewestRestores, expectNothingLost } from '../../setup/backups/catalogue-check.ts';
import { openRunProcesses, type RunProcesses } from '../../setup/backups/processes.ts';
import { seededRandom, seedLabel } from '../../setup/depth.ts';
import { waitUntil } from '../../setup/node/program.ts';

const KILLS = 100;
/** Every so often, the newest proven backup is restored, too. */
const RESTORE_EVERY = 10;
const LEASE_MS = 1_000;
const SLOT_MS = 1_000;
const HOUR_MS = 3_600_000;

test(`after kill -9 at ${KILLS} random moments of a run, the catalogue is true and the newest backup restores`, async () => {
  const random = seededRandom('kills');
  const site = await openBackupSite();
  const observer = await site.open({ leaseMs: LEASE_MS });
  const fill = (index: number) => observer.node.put(`document-${index}`, String(random.integer(0, 1e9)).repeat(5_000));
  for (let index = 0; index < 10; index += 1) await fill(index);
  // Retention has something to delete after each run, because two backups stay.
  const processes = await openRunProcesses(site, { leaseMs: LEASE_MS, keep: 2 });
  let now = Math.floor(Date.now() / SLOT_MS) * SLOT_MS;
  try {
    const spanMs = await measureRun(site, processes, now);
    for (let kill = 1; kill <= KILLS; kill += 1) {
      await fill(random.integer(0, 9));
      const process = processes.start();
      // It takes over the slot of the last one. If that has ended, or has no attempt left, the next slot comes.
      await waitUntil(
        async () => {
          const hasBegun = /a (?:backup run|drill) begins/.test(process.output());
          if (!hasBegun && (await countUnfinished(site)) === 0) {
            now += SLOT_MS;
            await processes.setClock(now);
          }
          return hasBegun;
        },
        (hasBegun) => hasBegun,
      );
      await sleep(random.fraction() * spanMs * 1.2);
      await process.kill();
      await expectNothingLost(site, observer, `kill ${kill}, ${seedLabel}`);
      if (kill % RESTORE_EVERY === 0) await expectNewestRestores(observer, await readCatalogue(observer.ledger));
    }
    await recover(site, processes, now);
    await expectCatalogueIsTrue(site, observer);
  } finally {
    await processes.close();
    await site.close();
  }
}, 900_000);

/** Lets a process run two slots undisturbed. Returns how long the second one took, with its retention. */
async function measureRun(site: BackupSite, processes: RunProcesses, now: number): Promise<number> {
  await processes.setClock(now - SLOT_MS);
  const process = processes.start();
  await waitUntil(
    () => countProven(site),
    (proven) => proven === 1,
  );
  await processes.setClock(now);
  const startedMs = performance.now();
  await waitUntil(
    () => countProven(site),
    (proven) => proven === 2,
  );
  const spanMs = performance.now() - startedMs;
  await process.kill();
  return spanMs;
}

async function countProven({ database }: BackupSite): Promise<number> {
  const { rows } = await database.pool.query<{ proven: number }>(
    `select count(*)::int as proven from loom_backup_run where kind = 'scheduled' and outcome = 'proven'`,
  );
  return rows[0]?.proven ?? 0;
}

/** Lets one process finish everything, with the clock moved by hours. */
async function recover(site: BackupSite, processes: RunProcesses, now: number): Promise<void> {
  await processes.setClock(now + 2 * HOUR_MS);
  const process = processes.start();
  await waitUntil(
    async () => ({ names: await site.objects.names(), unsettled: await countUnsettled(site) }),
    ({ names, unsettled }) => unsettled === 0 && names.every((name) => !name.startsWith('.')),
    120_000,
  );
  await process.kill();
}

/** Counts the runs to take over or to attempt again. */
async function countUnfinished({ database }: BackupSite): Promise<number> {
  const { rows } = await database.pool.query<{ unfinished: number }>(
    `select count(*)::int as unfinished from loom_backup_run where outcome = 'running' or retry_at is not null`,
  );
  return rows[0]?.unfinished ?? 0;
}

/** Counts the runs to take over, the incomplete backups, the deletions that have begun and the scratch states. */
async function countUnsettled({ database }: BackupSite): Promise<number> {
  const { rows } = await database.pool.query<{ unsettled: number }>(
    `select ((select count(*) from loom_backup_run
               where outcome = 'running' or retry_at is not null
                  or kind <> 'drill' and name is not null and deleted_at is null
                     and (bytes is null or deletion_begun_at is not null))
             + (select count(*) from loom_scratch))::int as unsettled`,
  );
  return rows[0]?.unsettled ?? 0;
}
