import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { limits } from '../../../src/limits.ts';
import { type BackupSite, openBackupSite, sweepAs } from '../../setup/backups/backup-node.ts';
import { expectCatalogueIsTrue } from '../../setup/backups/catalogue-check.ts';
import { seededRandom, seedLabel } from '../../setup/depth.ts';
import { ADMIN_TOKEN, asAdmin, json } from '../../setup/node/http.ts';
import { type Program, startProgram, waitUntil, waitUntilReady } from '../../setup/node/program.ts';

const NODES = 3;
const KILLS = 5;
/** Runs are seconds apart, so a kill meets most of them. */
const SCHEDULE = '*/3 * * * * *';
const MAX_PAUSE_MS = 3_000;

/** Starts the real program, with the usual lease of half a minute. */
async function startNode({ database, objects }: BackupSite): Promise<Program> {
  const env = {
    LOOM_PG_URL: database.url,
    LOOM_ADMIN_TOKEN: ADMIN_TOKEN,
    LOOM_BACKUP_STORE: objects.url,
    LOOM_BACKUP_SCHEDULE: SCHEDULE,
    LOOM_BACKUP_KEEP: 'last=3',
  };
  const node = await startProgram({ env });
  await waitUntilReady(node.url);
  return node;
}

interface Slot {
  slot: Date;
  proven: number;
  open: number;
}

async function readSlots({ database }: BackupSite): Promise<Slot[]> {
  const { rows } = await database.pool.query<Slot>(
    `select slot, count(*) filter (where outcome = 'proven')::int as proven,
            count(*) filter (where outcome = 'running' or retry_at is not null)::int as open
       from loom_backup_run where kind = 'scheduled' group by slot order by slot`,
  );
  return rows;
}

test('whole nodes, killed while they run, leave no slot without its success and serve all along', async () => {
  const random = seededRandom('real nodes');
  const site = await openBackupSite();
  const observer = await site.open();
  await observer.node.put('a', 'x'.repeat(1_000_000));
  const nodes = await Promise.all(Array.from({ length: NODES }, () => startNode(site)));
  try {
    for (let kill = 0; kill < KILLS; kill += 1) {
      await sleep(random.integer(0, MAX_PAUSE_MS));
      const { running } = await waitUntil(
        () => observer.ledger.observe(),
        (seen) => seen.running.length > 0,
      );
      // The name of a node contains its process id.
      const index = nodes.findIndex(({ pid }) => running.some(({ node }) => node.includes(`-${pid}-`)));
      const victim = Math.max(0, index);
      await nodes[victim]?.kill();
      for (const { url } of nodes.filter((_node, other) => other !== victim)) await expectServes(url);
      nodes[victim] = await startNode(site);
    }
    const [last] = nodes;
    if (last === undefined) throw new Error('there is no node');
    // A node that stops makes room for the others, so that one alone finishes all slots.
    for (const node of nodes.slice(1)) expect(await node.stop()).toBe(0);
    await waitUntil(
      async () => (await readSlots(site)).slice(0, -1),
      (slots) => slots.every(({ open }) => open === 0),
      120_000,
    );
    expect(await last.stop()).toBe(0);
    const finisher = await site.open({ leaseMs: 30_000 });
    finisher.runs.start();
    const slots = await waitUntil(
      () => readSlots(site),
      (seen) => seen.every(({ open }) => open === 0),
      120_000,
    );
    for (const { slot, proven } of slots) expect({ slot, proven }, seedLabel).toEqual({ slot, proven: 1 });
    // A deletion that a killed node has begun is finished after its deadline.
    await sweepAs(finisher, site, 2 * limits.deletionTimeoutMs);
    await finisher.close();
    const parts = (await site.objects.names()).filter((name) => name.startsWith('.'));
    for (const part of parts) await site.objects.delete(part);
    await expectCatalogueIsTrue(site, observer);
  } finally {
    await Promise.all(nodes.map((node) => node.kill()));
    await site.close();
  }
}, 400_000);

async function expectServes(url: string): Promise<void> {
  expect((await fetch(`${url}/ready`)).status).toBe(200);
  const put = { method: 'PUT', headers: { ...asAdmin, ...json }, body: '1' };
  expect((await fetch(`${url}/v1/documents/b`, put)).status).toBeLessThan(300);
}
