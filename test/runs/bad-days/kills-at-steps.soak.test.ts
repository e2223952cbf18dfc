import { afterEach, describe, expect, test } from 'vitest';
import { parseKeepPolicy } from '../../../src/backup/stored/retention.ts';
import { readCatalogue } from '../../../src/runs/catalogue.ts';
import {
  type BackupNode,
  type BackupSite,
  openBackupSite,
  sweepAs,
  takeProven,
} from '../../setup/backups/backup-node.ts';
import { expectCatalogueIsTrue, expectNothingLost } from '../../setup/backups/catalogue-check.ts';
import type { RunOrder } from '../../setup/backups/process-settings.ts';
import { openRunProcesses, type RunProcesses } from '../../setup/backups/processes.ts';
import { waitUntil } from '../../setup/node/program.ts';
import type { StoreKind } from '../../setup/object-store/object-store.ts';

const LEASE_MS = 10_000;
const HOUR_MS = 3_600_000;
/** Retention has something to delete after each run. */
const KEEP = 2;

let site: BackupSite;
let at: BackupNode;
let processes: RunProcesses;

async function open(kind: StoreKind): Promise<void> {
  site = await openBackupSite(kind);
  at = await site.open({ leaseMs: LEASE_MS, policy: parseKeepPolicy(`last=${KEEP}`) });
  processes = await openRunProcesses(site, { leaseMs: LEASE_MS, keep: KEEP });
  await processes.setClock(Date.now());
  for (let index = 0; index < 10; index += 1) await at.node.put(`document-${index}`, String(index).repeat(10_000));
  for (let count = 0; count < KEEP; count += 1) await takeProven(at);
}

afterEach(async () => {
  await processes.close();
  await site.close();
});

/** Lets a process carry out an order. Returns the steps that it reached. */
async function listSteps(order: RunOrder): Promise<string[]> {
  const process = processes.start({ order });
  await waitForLine(process.output, 'done');
  await process.kill();
  return [...new Set([...process.output().matchAll(/^step (.*)$/gm)].map(([, step = '']) => step))];
}

/** Kills a process that carries out an order when it has reached a step, and cannot go on. */
async function killAt(order: RunOrder, stopAt: string): Promise<void> {
  const process = processes.start({ order, stopAt });
  await waitForLine(process.output, 'stopped');
  await process.kill();
}

function waitForLine(output: () => string, line: string): Promise<string> {
  return waitUntil(
    async () => output(),
    (text) => text.split('\n').includes(line),
    60_000,
  );
}

/** Lets another node take over after the lease of the dead one has ended, and sweep two hours later. */
async function recover(): Promise<void> {
  await site.database.pool.query(`
    update loom_backup_run set lease_until = lease_until - interval '1 hour', drill_until = drill_until - interval '1 hour'`);
  const other = await site.open({ leaseMs: LEASE_MS, backoffMs: 1, policy: parseKeepPolicy(`last=${KEEP}`) });
  other.runs.start();
  await waitUntil(
    async () => {
      const { rows } = await site.database.pool.query<{ open: number }>(
        `select count(*)::int as open from loom_backup_run where outcome = 'running' or retry_at is not null`,
      );
      return rows[0]?.open;
    },
    (running) => running === 0,
    60_000,
  );
  await other.close();
  await sweepAs(at, site, 2 * HOUR_MS);
}

/** Takes backups until retention has deleted all but the newest ones. Asserts that it left nothing. */
async function expectCleanRetention(): Promise<void> {
  do await takeProven(at);
  while ((await readCatalogue(at.ledger)).length < KEEP);
  expect(await readCatalogue(at.ledger)).toHaveLength(KEEP);
  await expectCatalogueIsTrue(site, at);
}

const oldest = async (): Promise<string> => String((await readCatalogue(at.ledger)).at(-1)?.name);

/** Kills a process at each of the steps, and asserts each time that nothing is wrong then, nor after the recovery. */
async function killAtEach(steps: readonly string[], orderOf: () => Promise<RunOrder>): Promise<void> {
  for (const step of steps) {
    const order = await orderOf();
    await killAt(order, step);
    await expectNothingLost(site, at, step);
    await recover();
    await expectCatalogueIsTrue(site, at);
    await expectCleanRetention();
  }
}

describe('a node that is killed with SIGKILL leaves nothing wrong', () => {
  test('at each step of a run in a folder, with its proof and its retention', async () => {
    await open('file');
    const steps = await listSteps({ verb: 'take' });
    for (const step of [
      ...['amid put of a backup', 'after put of a backup', 'before put of a manifest', 'after put of a manifest'],
      ...['after recordWritten', 'amid get of a backup', 'after restore', 'before recordProven', 'before dropScratch'],
      ...['after beginDeletion', 'after delete of a manifest', 'after delete of a backup', 'before recordDeleted'],
    ])
      expect(steps).toContain(step);
    await killAtEach(steps, async () => ({ verb: 'take' }));
  }, 600_000);

  test('at each change of a run in S3', async () => {
    await open('s3');
    const steps = (await listSteps({ verb: 'take' })).filter((step) => / (?:put|delete) of /.test(step));
    expect(steps.length).toBeGreaterThan(8);
    await killAtEach(steps, async () => ({ verb: 'take' }));
  }, 600_000);

  test('at each step of a deletion that an operator requests', async () => {
    await open('file');
    const orderOf = async (): Promise<RunOrder> => ({ verb: 'remove', name: await oldest() });
    const steps = await listSteps(await orderOf());
    expect(steps).toContain('after delete of a manifest');
    await expectCleanRetention();
    await killAtEach(steps, orderOf);
  }, 600_000);

  test('at each step of a drill', async () => {
    await open('file');
    const orderOf = async (): Promise<RunOrder> => ({ verb: 'drill', name: await oldest() });
    const steps = await listSteps(await orderOf());
    expect(steps).toContain('before recordProven');
    await killAtEach(steps, orderOf);
  }, 600_000);

  test('at each step of a drill that withdraws a proof', async () => {
    await open('file');
    const name = await oldest();
    const intact = await site.objects.read(name);
    const damaged = Buffer.from(intact);
    damaged.writeUInt8(damaged.readUInt8(damaged.length >> 1) ^ 1, damaged.length >> 1);
    const order: RunOrder = { verb: 'drill', name };
    const drillHere = async () => await (await at.runs.drill(name)).ended;
    await site.objects.write(name, damaged);
    const steps = await listSteps(order);
    expect(steps).toContain('before recordFailed');
    for (const step of steps) {
      await site.objects.write(name, intact);
      expect(await drillHere(), step).toMatchObject({ outcome: 'proven' });
      await site.objects.write(name, damaged);
      await killAt(order, step);
      await expectNothingLost(site, at, step);
      await recover();
      if (step === 'before claimNow') expect(await drillHere(), step).toMatchObject({ outcome: 'failed' });
      expect(await at.ledger.readBackup(name), step).toMatchObject({
        proven_at: null,
        fault: { code: 'stored_backup_damaged' },
        deletionBegunAt: null,
      });
    }
    await site.objects.write(name, intact);
    expect(await drillHere()).toMatchObject({ outcome: 'proven' });
    await expectCatalogueIsTrue(site, at);
  }, 600_000);

  test('in the middle of the drop of its scratch state', async () => {
    await open('file');
    const { pool } = site.database;
    await pool.query(`
      create function hold_drop() returns trigger language plpgsql
        as $$ begin perform pg_advisory_xact_lock(4711); return old; end $$;
      create trigger hold_drop before delete on loom_scratch for each row execute function hold_drop()`);
    const holder = await pool.connect();
    await holder.query('select pg_advisory_lock(4711)');
    const process = processes.start({ order: { verb: 'take' } });
    const waiting = `select count(*)::int as waiting from pg_locks where locktype = 'advisory' and objid = 4711 and not granted`;
    await waitUntil(
      async () => (await holder.query<{ waiting: number }>(waiting)).rows[0]?.waiting,
      (count) => count === 1,
      60_000,
    );
    await process.kill();
    await holder.query('select pg_advisory_unlock(4711)');
    holder.release();
    await pool.query('drop trigger hold_drop on loom_scratch');
    await expectNothingLost(site, at, 'amid dropScratch');
    await recover();
    await expectCatalogueIsTrue(site, at);
    await expectCleanRetention();
  }, 120_000);
});
