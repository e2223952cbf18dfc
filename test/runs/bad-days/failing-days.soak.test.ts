import { rename } from 'node:fs/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { createLogger } from '../../../src/log.ts';
import { type LoomNode, startNode } from '../../../src/node.ts';
import { type BackupSite, openBackupSite } from '../../setup/backups/backup-node.ts';
import { expectCatalogueIsTrue } from '../../setup/backups/catalogue-check.ts';
import { byDays, byHours, type Course, failFor, openCourse, recover } from '../../setup/backups/course.ts';
import { type AlarmRecording, type ExpectedAlarms, recordForAlarms } from '../../setup/deploy/alarm-recording.ts';
import { isInstalled } from '../../setup/deploy/tools.ts';
import { asAdmin, json, testConfig } from '../../setup/node/http.ts';
import { waitUntil } from '../../setup/node/program.ts';
import { type ProxyFault, proxyFaults } from '../../setup/object-store/fault-proxy.ts';
import { createS3TestStore, type S3TestStore } from '../../setup/object-store/object-store.ts';

const HOUR_MS = 3_600_000;
/** Each day has another fault of S3. */
const DAYS = 30;
const FOLDER_HOURS = 12;

let close: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const one of close.reverse()) await one();
  close = [];
});

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

const watched = [
  'LoomBackupTooOld',
  'LoomBackupNeverProven',
  'LoomBackupProofInFuture',
  'LoomBackupStoreDown',
  'LoomBackupRunFailed',
  'LoomDrillFailed',
];
const node = [{ instance: 'a' }];
const failedRun = [{ kind: 'scheduled', outcome: 'failed' }];

/** Asserts which alarms of docs/deploy the recorded metrics fire, at these times. */
async function expectAlarms(recording: AlarmRecording, expected: ExpectedAlarms[]): Promise<void> {
  if (isInstalled('promtool')) await recording.expectAlarms(watched, expected);
  else console.warn('The alarms are not tried: promtool of Prometheus is not installed.');
}

/** Opens a course whose metrics are recorded. */
async function record(
  site: BackupSite,
  options: { store: ReturnType<BackupSite['objects']['open']>; slotMs: number; sampleMs: number },
  replacements: Record<string, string> = {},
): Promise<{ course: Course; recording: AlarmRecording }> {
  const recording = recordForAlarms(replacements);
  const onScrape = (atMs: number, text: string | undefined): void => recording.add(atMs, 'a', text);
  return { course: await openCourse(site, { ...options, onScrape }), recording };
}

describe('while the store fails, nothing is deleted, the alarms fire and the service answers', () => {
  test(`S3, ${DAYS} days`, async () => {
    const site = await openBackupSite();
    const s3: S3TestStore = await createS3TestStore();
    close.push(site.close, s3.remove);
    const usual = s3.open({ maxAttempts: 1 });
    // Only a store that stands still meets its bounds, however slow this machine is.
    const impatient = s3.open({ idleTimeoutMs: 300, requestTimeoutMs: 600, maxAttempts: 1 });
    let current = usual;
    const store = new Proxy(usual, { get: (_usual, verb) => Reflect.get(current, verb) });
    // For a schedule by days, three times its period.
    const perDay = { '> 3 * 3600': '> 3 * 86400' };
    const { course, recording } = await record(site, { store, ...byDays }, perDay);
    for (let day = 0; day < 2; day += 1) expect(await course.passSlot()).toMatchObject([{ outcome: 'proven' }]);
    const lastGoodMs = course.now();
    const service = await startRealNode(site, s3);
    const good = await failFor(course, DAYS, async (day) => {
      const fault = proxyFaults[day % proxyFaults.length] ?? 'failed';
      current = fault === 'slow' || fault === 'hang' ? impatient : usual;
      s3.proxy.inject({ fault });
      await expectServes(service, day);
      return codesOf[fault];
    });
    const lastBadMs = course.now();
    current = usual;
    s3.proxy.inject(undefined);
    expect(await s3.names()).toContain(good);
    await service.close();
    await recover(course);
    await course.passSlot();
    await expectAlarms(recording, [
      { atMs: lastGoodMs - 24 * HOUR_MS, firing: {} },
      { atMs: lastGoodMs, firing: {} },
      // A day after the first failed slot, its alarm is over, and the newest backup is not too old yet.
      { atMs: lastGoodMs + 24 * HOUR_MS, firing: { LoomBackupStoreDown: node } },
      ...Array.from({ length: DAYS - 3 }, (_, day) => ({
        atMs: lastGoodMs + (day + 4) * 24 * HOUR_MS,
        firing: { LoomBackupStoreDown: node, LoomBackupTooOld: node },
      })),
      { atMs: lastBadMs + 25 * HOUR_MS, firing: {} },
    ]);
  }, 900_000);

  test(`a folder, ${FOLDER_HOURS} hours, with a restart of all nodes`, async () => {
    const site = await openBackupSite();
    close.push(site.close);
    if (site.objects.options.kind !== 'file') throw new Error('the store is a folder');
    const { directory } = site.objects.options;
    const { course, recording } = await record(site, { store: site.objects.open(), ...byHours });
    for (let hour = 0; hour < 6; hour += 1) expect(await course.passSlot()).toMatchObject([{ outcome: 'proven' }]);
    const lastGoodMs = course.now();
    await rename(directory, `${directory}.away`);
    const hours = (count: number) => failFor(course, count, async () => ['store_unreachable']);
    await hours(FOLDER_HOURS / 2);
    await course.restart(site.objects.open());
    const restartedMs = course.now();
    await hours(FOLDER_HOURS / 2);
    const lastBadMs = course.now();
    await rename(`${directory}.away`, directory);
    await recover(course);
    for (let hour = 0; hour < 2; hour += 1) await course.passSlot();
    const failing = { LoomBackupStoreDown: node, LoomBackupRunFailed: failedRun };
    const old = { ...failing, LoomBackupTooOld: node };
    await expectAlarms(recording, [
      ...[5, 4, 3, 2, 1, 0].map((hour) => ({ atMs: lastGoodMs - hour * HOUR_MS, firing: {} })),
      // The first slot fails within the hour. The newest backup is less than an hour old at the last good scrape.
      { atMs: lastGoodMs + 1.5 * HOUR_MS, firing: failing },
      { atMs: lastGoodMs + 3.5 * HOUR_MS, firing: old },
      { atMs: lastGoodMs + 5 * HOUR_MS, firing: old },
      // The alarm on the age goes on during the restart, and that on the store begins again.
      { atMs: restartedMs, firing: { LoomBackupTooOld: node, LoomBackupRunFailed: failedRun } },
      { atMs: lastBadMs, firing: old },
      { atMs: lastBadMs + 3 * HOUR_MS, firing: {} },
    ]);
  }, 300_000);

  test('a new installation that has never had a success', async () => {
    const site = await openBackupSite();
    close.push(site.close);
    if (site.objects.options.kind !== 'file') throw new Error('the store is a folder');
    const { directory } = site.objects.options;
    await rename(directory, `${directory}.away`);
    const { course, recording } = await record(site, { store: site.objects.open(), ...byHours });
    const startMs = course.now();
    for (let hour = 0; hour < 3; hour += 1) {
      expect(await course.passSlot()).toMatchObject(Array.from({ length: 3 }, () => ({ code: 'store_unreachable' })));
    }
    await course.restart(site.objects.open());
    const restartedMs = course.now();
    await rename(`${directory}.away`, directory);
    await recover(course);
    await course.passSlot();
    await expectAlarms(recording, [
      { atMs: startMs, firing: {} },
      {
        atMs: startMs + 2.5 * HOUR_MS,
        firing: { LoomBackupNeverProven: node, LoomBackupStoreDown: node, LoomBackupRunFailed: failedRun },
      },
      { atMs: restartedMs, firing: { LoomBackupNeverProven: node, LoomBackupRunFailed: failedRun } },
      { atMs: restartedMs + 1.8 * HOUR_MS, firing: {} },
    ]);
  }, 300_000);

  test('a clock of the database that is a day ahead for two hours', async () => {
    const site = await openBackupSite();
    close.push(site.close);
    const { course, recording } = await record(site, { store: site.objects.open(), ...byHours });
    const passHours = async (hours: number): Promise<void> => {
      for (let hour = 0; hour < hours; hour += 1)
        expect(await course.passSlot()).toMatchObject([{ outcome: 'proven' }]);
    };
    await passHours(2);
    const wrongMs = course.now();
    await course.setClockError(24 * HOUR_MS);
    await passHours(2);
    await course.setClockError(0);
    await passHours(3);
    await recover(course);
    await expectCatalogueIsTrue(site, course.at);
    await expectAlarms(recording, [
      { atMs: wrongMs, firing: {} },
      { atMs: wrongMs + HOUR_MS, firing: { LoomBackupProofInFuture: node } },
      { atMs: wrongMs + 2 * HOUR_MS, firing: { LoomBackupProofInFuture: node } },
      ...[3, 4, 5, 6].map((hour) => ({ atMs: wrongMs + hour * HOUR_MS, firing: {} })),
    ]);
  }, 300_000);
});

/** Starts a whole node that uses the failing store, too, for another state. */
async function startRealNode(site: BackupSite, s3: S3TestStore): Promise<LoomNode> {
  const variables = { LOOM_PG_STATE_KEY: 'service', LOOM_BACKUP_STORE: s3.url };
  const config = testConfig(site.database.url, { ...s3.variables, ...variables });
  const started = await startNode(config, { log: createLogger({ level: 'silent' }) });
  await waitUntil(
    () => fetch(`${started.url}/ready`).then(({ status }) => status),
    (status) => status === 200,
  );
  return started;
}

async function expectServes({ url }: LoomNode, day: number): Promise<void> {
  expect((await fetch(`${url}/ready`)).status).toBe(200);
  const put = { method: 'PUT', headers: { ...asAdmin, ...json }, body: String(day) };
  expect((await fetch(`${url}/v1/documents/day`, put)).status).toBeLessThan(300);
  expect(await (await fetch(`${url}/v1/documents/day`, { headers: asAdmin })).json()).toBe(day);
}
