import { rename } from 'node:fs/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { parseKeepPolicy } from '../../src/backup/stored/retention.ts';
import type { ObjectStore } from '../../src/domain/object-store.ts';
import { createLogger } from '../../src/log.ts';
import { type LoomNode, startNode } from '../../src/node.ts';
import { readCatalogue } from '../../src/runs/catalogue.ts';
import { type BackupNode, type BackupSite, every, openBackupSite } from '../setup/backups/backup-node.ts';
import { asAdmin, json, testConfig } from '../setup/node/http.ts';
import { waitUntil } from '../setup/node/program.ts';
import { type ProxyFault, proxyFaults } from '../setup/object-store/fault-proxy.ts';
import { createS3TestStore, type S3TestStore } from '../setup/object-store/object-store.ts';

const DAY_MS = 24 * 3_600_000;
/** Three days of each fault of S3, and three of a folder that is away. */
const DAYS = 3 * proxyFaults.length;
const FOLDER_DAYS = 3;

/** A node whose clock the test moves by days. Each day is a slot. */
interface Days {
  at: BackupNode;
  next(): void;
}

async function openDays(site: BackupSite, store: ObjectStore): Promise<Days> {
  let aheadMs = 0;
  const at = await site.open({
    store,
    backoffMs: 1,
    schedule: every(DAY_MS),
    policy: parseKeepPolicy('last=1'),
    wrapLedger: (ledger) => ({
      ...ledger,
      readClock: async () => new Date((await ledger.readClock()).getTime() + aheadMs),
    }),
  });
  await at.node.put('a', 1);
  at.runs.start();
  return {
    at,
    next: () => {
      aheadMs += DAY_MS;
    },
  };
}

/** Waits until the slot of the day has no further attempt. Returns its rows. */
async function endOfDay({ database }: BackupSite, slots: number) {
  return await waitUntil(
    async () => {
      const { rows } = await database.pool.query<{ outcome: string; code: string | null; open: boolean }>(
        `select outcome, code, outcome = 'running' or retry_at is not null as open from loom_backup_run
          where state_key = 'default' and slot = (select max(slot) from loom_backup_run where state_key = 'default')
            and (select count(distinct slot) from loom_backup_run where state_key = 'default') = $1
          order by attempt`,
        [slots],
      );
      return rows;
    },
    (rows) => rows.length > 0 && rows.every(({ open }) => !open),
    120_000,
  );
}

let close: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const one of close.reverse()) await one();
  close = [];
});

/** Lets the store fail for some days, each with another fault. Asserts that all stays as on the last good day. */
async function failFor(
  days: number,
  site: BackupSite,
  { at, next }: Days,
  faultOf: (day: number) => Promise<string[]>,
) {
  await endOfDay(site, 1);
  const [good] = await readCatalogue(at.ledger);
  const before = await at.runs.observe();
  expect(good?.proven_at).not.toBeNull();
  for (let day = 1; day <= days; day += 1) {
    const codes = await faultOf(day);
    next();
    const rows = await endOfDay(site, day + 1);
    expect(rows, `day ${day}`).toHaveLength(3);
    for (const row of rows) {
      expect(row.outcome, `day ${day}`).toBe('failed');
      expect(codes, `day ${day}`).toContain(row.code);
    }
    await at.node.put('a', day);
    const { lastSuccessAt, lastProvenAt, lastFailure, storeIsUp } = await at.runs.observe();
    // The age of the last success and of the last proof grows.
    expect({ lastSuccessAt, lastProvenAt }).toEqual({
      lastSuccessAt: before.lastSuccessAt,
      lastProvenAt: before.lastProvenAt,
    });
    expect(lastFailure?.detail).toEqual(expect.any(String));
    expect(storeIsUp).toBe(false);
  }
  const after = await at.ledger.readBackup(String(good?.name));
  expect(after).toMatchObject({ proven_at: good?.proven_at, deletionBegunAt: null, fault: null });
  return String(good?.name);
}

/** Asserts that the next day succeeds, and that afterwards only its backup is left, as the policy says. */
async function recover(site: BackupSite, { at, next }: Days, slots: number): Promise<void> {
  next();
  expect(await endOfDay(site, slots)).toMatchObject([{ outcome: 'proven' }]);
  await waitUntil(
    () => readCatalogue(at.ledger),
    (catalogue) => catalogue.length === 1,
  );
}

const codesOf: Record<ProxyFault, string[]> = {
  refused: ['store_refused'],
  skewed: ['store_refused'],
  failed: ['store_failed'],
  full: ['store_full'],
  'error-inside': ['store_failed'],
  'lost-answer': ['store_unreachable', 'store_failed'],
  reset: ['store_unreachable', 'store_failed'],
  slow: ['store_unreachable', 'store_failed'],
  hang: ['store_unreachable', 'store_failed'],
};

describe('while the store fails for days, nothing is deleted and the service answers', () => {
  test(`S3, ${DAYS} days`, async () => {
    const site = await openBackupSite();
    const s3: S3TestStore = await createS3TestStore();
    close.push(site.close, s3.remove);
    const days = await openDays(site, s3.open({ idleTimeoutMs: 300, requestTimeoutMs: 600, maxAttempts: 1 }));
    await endOfDay(site, 1);
    const node = await startRealNode(site, s3);
    const good = await failFor(DAYS, site, days, async (day) => {
      const fault = proxyFaults[day % proxyFaults.length] ?? 'failed';
      s3.proxy.inject({ fault });
      await expectServes(node, day);
      return codesOf[fault];
    });
    s3.proxy.inject(undefined);
    expect(await s3.names()).toContain(good);
    await node.close();
    await recover(site, days, DAYS + 2);
  }, 600_000);

  test(`a folder, ${FOLDER_DAYS} days`, async () => {
    const site = await openBackupSite();
    close.push(site.close);
    if (site.objects.options.kind !== 'file') throw new Error('the store is a folder');
    const { directory } = site.objects.options;
    const days = await openDays(site, site.objects.open());
    let isAway = false;
    await failFor(FOLDER_DAYS, site, days, async () => {
      if (!isAway) await rename(directory, `${directory}.away`);
      isAway = true;
      return ['store_unreachable'];
    });
    await rename(`${directory}.away`, directory);
    await recover(site, days, FOLDER_DAYS + 2);
  });
});

/** Starts a whole node that uses the failing store, too, for another state. */
async function startRealNode(site: BackupSite, s3: S3TestStore): Promise<LoomNode> {
  const variables = { LOOM_PG_STATE_KEY: 'service', LOOM_BACKUP_STORE: s3.url };
  const config = testConfig(site.database.url, { ...s3.variables, ...variables });
  const node = await startNode(config, { log: createLogger({ level: 'silent' }) });
  await waitUntil(
    () => fetch(`${node.url}/ready`).then(({ status }) => status),
    (status) => status === 200,
  );
  return node;
}

async function expectServes({ url }: LoomNode, day: number): Promise<void> {
  expect((await fetch(`${url}/ready`)).status).toBe(200);
  const put = { method: 'PUT', headers: { ...asAdmin, ...json }, body: String(day) };
  expect((await fetch(`${url}/v1/documents/day`, put)).status).toBeLessThan(300);
  expect(await (await fetch(`${url}/v1/documents/day`, { headers: asAdmin })).json()).toBe(day);
}
