import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createMemoryBudgets } from '../../src/domain/memory.ts';
import { limits } from '../../src/limits.ts';
import { createFakeStoredBackups, type FakeStoredBackups, STORED_NAME } from '../setup/backups/fake-stored-backups.ts';
import {
  asAdmin,
  asClient,
  createBareServer,
  createTestServer,
  inject,
  type TestServer,
  testConfig,
} from '../setup/node/http.ts';
import { waitUntil } from '../setup/node/program.ts';

const URL = '/v1/admin/backups';
const NEWEST = STORED_NAME.replace('25T', '26T');

let server: TestServer;
let backups: FakeStoredBackups;
beforeAll(async () => {
  backups = createFakeStoredBackups({ endsRuns: false });
  server = await createTestServer({}, { storedBackups: backups });
});
afterAll(() => server.close());

const send = (
  method: 'GET' | 'HEAD' | 'POST' | 'DELETE',
  url: string,
  headers: Record<string, string> = {},
  body?: string,
) => server.request(method, url, { headers: { ...asAdmin, ...headers }, ...(body === undefined ? {} : { body }) });

describe('the catalogue', () => {
  test('comes in pages, newest first', async () => {
    const first = (await send('GET', `${URL}?limit=1`)).json();
    expect(first).toMatchObject({ backups: [{ name: NEWEST }], next: NEWEST });
    const second = (await send('GET', `${URL}?limit=1&before=${first.next}`)).json();
    expect(second).toMatchObject({ backups: [{ name: STORED_NAME }], next: null });
    for (const query of ['limit=0', 'before=absent'])
      expect((await send('GET', `${URL}?${query}`)).json().code).toBe('invalid_parameter');
  });

  test('a backup is downloaded as it lies there', async () => {
    const answer = await send('GET', `${URL}/${STORED_NAME}`);
    expect(answer.status).toBe(200);
    expect(answer.headers).toMatchObject({
      'content-type': 'application/gzip',
      'content-length': String(Buffer.byteLength(answer.text)),
      'content-disposition': `attachment; filename="${STORED_NAME}"`,
      'accept-ranges': 'none',
      etag: `"${'a'.repeat(64)}"`,
    });
    const head = await send('HEAD', `${URL}/${STORED_NAME}`);
    expect(head.headers).toMatchObject({
      'content-length': answer.headers['content-length'],
      etag: answer.headers.etag,
    });
    const current = await send('GET', `${URL}/${STORED_NAME}`, { 'if-none-match': `"b", W/"${'a'.repeat(64)}"` });
    expect(current).toMatchObject({ status: 304, text: '', headers: { etag: answer.headers.etag } });
    const malformed = await send('GET', `${URL}/${STORED_NAME}`, { 'if-none-match': 'b' });
    expect(malformed.json().code).toBe('invalid_parameter');
    // An open body keeps a file or a connection of the store.
    await waitUntil(
      async () => backups.openBodies(),
      (open) => open === 0,
    );
    expect((await send('GET', `${URL}/absent`)).json()).toMatchObject({ status: 404, code: 'stored_backup_not_found' });
  });

  test('a download is refused while other answers use the memory of the node, and leaves no file open', async () => {
    const memory = createMemoryBudgets(() => 0);
    const other = memory.answers.open();
    other.resize(limits.maxAnswersBytes);
    const bare = createBareServer(server.store, testConfig(server.database.url), { storedBackups: backups, memory });
    const download = () => inject(bare, { method: 'GET', url: `${URL}/${STORED_NAME}`, headers: asAdmin });
    expect((await download()).json()).toMatchObject({ status: 503, code: 'node_busy' });
    other.close();
    expect((await download()).status).toBe(200);
    await waitUntil(
      async () => backups.openBodies() + memory.answers.usedBytes(),
      (left) => left === 0,
    );
    await bare.close();
  });

  test('a deletion needs its confirmation, and happens once', async () => {
    const remove = (name: string, body?: string) => send('DELETE', `${URL}/${name}`, {}, body);
    expect((await remove(STORED_NAME)).json().code).toBe('confirm_missing');
    expect((await remove(STORED_NAME, ' ')).json().code).toBe('invalid_json');
    expect((await remove(STORED_NAME, '{}')).json().code).toBe('confirm_missing');
    expect((await remove(STORED_NAME, '[]')).json().code).toBe('invalid_delete_request');
    const unknown = await remove(STORED_NAME, '{"confirm":"delete","force":true}');
    expect(unknown.json()).toMatchObject({ code: 'invalid_delete_request', pointer: '/force' });
    expect((await remove(NEWEST, '{"confirm":"delete"}')).json()).toMatchObject({
      status: 409,
      code: 'stored_backup_kept',
    });
    expect((await remove(STORED_NAME, '{"confirm":"delete"}')).json()).toEqual({ name: STORED_NAME });
    expect((await remove(STORED_NAME, '{"confirm":"delete"}')).json().code).toBe('stored_backup_not_found');
  });
});

describe('a path below the backups', () => {
  test.each([
    ['DELETE', `${URL}/runs`],
    ['POST', `${URL}/runs`],
    ['DELETE', `${URL}/%72uns`],
    ['DELETE', `${URL}/runs/a`],
    ['POST', `${URL}/runs/drill`],
  ] as const)('answers 405 with the methods of the runs: %s %s', async (method, url) => {
    const answer = await send(method, url);
    expect(answer.json()).toMatchObject({ status: 405, code: 'method_not_allowed' });
    expect(answer.headers.allow).toBe('GET, HEAD');
  });

  test.each([
    ['GET', `${URL}/`],
    ['DELETE', `${URL}/`],
    ['POST', `${URL}/`],
    ['POST', `${URL}//drill`],
  ] as const)('answers 404 without a name: %s %s', async (method, url) => {
    expect((await send(method, url)).json()).toMatchObject({ status: 404, code: 'not_found' });
  });
});

describe('runs', () => {
  test('a run is answered at once with its path, and a second one is refused meanwhile', async () => {
    const answer = await send('POST', URL);
    expect(answer.status).toBe(202);
    expect(answer.headers['preference-applied']).toBeUndefined();
    const { id, outcome } = answer.json();
    expect(outcome).toBe('running');
    expect(answer.headers.location).toBe(`${URL}/runs/${id}`);
    const second = await send('POST', URL);
    expect([second.status, second.json().code, second.headers['retry-after']]).toEqual([409, 'backup_running', '5']);
    backups.endRun({ outcome: 'failed', code: 'store_full', detail: 'The disk is full.' });
    expect((await send('GET', `${URL}/runs/${id}`)).json()).toMatchObject({
      id,
      outcome: 'failed',
      code: 'store_full',
    });
    expect((await send('GET', `${URL}/runs?limit=1`)).json().runs).toMatchObject([{ id }]);
  });

  test.each([
    ['respond-async, wait=60', 'wait=60'],
    ['wait=99999999999999999999', 'wait=600'],
  ])('a client that prefers to wait (%s) gets the ended run, whatever its outcome', async (prefer, applied) => {
    const waiting = send('POST', `${URL}/${NEWEST}/drill`, { prefer });
    await Promise.race([waiting, backups.nextRun()]);
    backups.endRun({ outcome: 'verified' });
    const answer = await waiting;
    expect(answer.status).toBe(200);
    expect(answer.headers['preference-applied']).toBe(applied);
    expect(answer.json()).toMatchObject({ kind: 'drill', outcome: 'verified', name: NEWEST });
  });

  test('a run that another node takes over has not ended', async () => {
    const waiting = send('POST', URL, { prefer: 'wait=60' });
    await Promise.race([waiting, backups.nextRun()]);
    backups.endRun({ outcome: 'running', ended_at: null });
    const answer = await waiting;
    expect([answer.status, answer.json().outcome]).toEqual([202, 'running']);
  });

  test.each([
    ['wait=0', 'wait=0'],
    ['WAIT="0"; a', 'wait=0'],
    ['wait=-1', undefined],
    ['wait', undefined],
    ['return=minimal', undefined],
  ])('Prefer: %s', async (prefer, applied) => {
    const answer = await send('POST', URL, { prefer });
    backups.endRun();
    expect([answer.status, answer.headers['preference-applied']]).toEqual([202, applied]);
  });

  test('an id that no run has', async () => {
    for (const id of ['01a214ed-a53e-7cec-a3cc-fe25a65bce36', 'a', '%00'])
      expect((await send('GET', `${URL}/runs/${id}`)).json()).toMatchObject({ status: 404, code: 'run_not_found' });
  });
});

test('without a store, each route names the variable, and status and metrics have nothing', async () => {
  const bare = createBareServer(server.store, testConfig(server.database.url));
  const requests = [
    ['GET', URL],
    ['POST', URL],
    ['GET', `${URL}/runs`],
    ['GET', `${URL}/runs/01a214ed-a53e-7cec-a3cc-fe25a65bce35`],
    ['GET', `${URL}/${STORED_NAME}`],
    ['POST', `${URL}/${STORED_NAME}/drill`],
    ['DELETE', `${URL}/${STORED_NAME}`],
  ] as const;
  for (const [method, url] of requests) {
    const headers = { ...asAdmin, 'content-type': 'application/json' };
    const answer = await inject(bare, { method, url, headers });
    expect(answer.json(), url).toMatchObject({ status: 409, code: 'store_not_configured' });
    expect(answer.json().detail).toContain('LOOM_BACKUP_STORE');
    expect((await inject(bare, { method, url, headers: asClient })).status, url).toBe(403);
  }
  expect(
    (await inject(bare, { method: 'GET', url: '/v1/admin/status', headers: asAdmin })).json().stored_backups,
  ).toBeNull();
  expect((await inject(bare, { method: 'GET', url: '/metrics', headers: asAdmin })).text).not.toContain('loom_backup_');
  await bare.close();
});

describe('status and metrics', () => {
  const status = async () => (await send('GET', '/v1/admin/status')).json().stored_backups;
  const metrics = async () => (await send('GET', '/metrics')).text;

  test('show the last success, the last proof and the store', async () => {
    expect(await status()).toMatchObject({
      store: 'file:///var/lib/loom/backups',
      up: true,
      fault: null,
      last_proven_at: '2026-11-25T22:57:28.451Z',
      faulty_backups: 0,
      last_failure: null,
      running: [],
    });
    const text = await metrics();
    expect(text).toContain('\nloom_backup_last_success_timestamp_seconds 1795647448.451\n');
    expect(text).toContain('\nloom_backup_last_proven_timestamp_seconds 1795647448.451\n');
    expect(text).toContain('\nloom_backup_proven_restore_seconds 1.5\n');
    expect(text).toContain('\nloom_backup_faulty 0\n');
    expect(text).toContain('\nloom_backup_store_up 1\n');
    expect(text).toContain('\nloom_backup_runs_total{kind="scheduled",outcome="proven"} 3\n');
    expect(text).toContain('\nloom_backup_runs_total{kind="drill",outcome="failed"} 0\n');
    expect(await metrics()).toContain('\nloom_backup_runs_total{kind="scheduled",outcome="proven"} 3\n');
  });

  test('show how many backups have a fault', async () => {
    const { observation } = backups;
    backups.observation = { ...observation, faultyBackups: 2 };
    expect(await status()).toMatchObject({ faulty_backups: 2 });
    expect(await metrics()).toContain('\nloom_backup_faulty 2\n');
    backups.observation = observation;
  });

  test('before the first run, the time is 0, so that an alarm on the age fires', async () => {
    const { observation } = backups;
    backups.observation = { ...observation, lastProvenAt: null, lastBytes: null, storeIsUp: null };
    const text = await metrics();
    expect(text).toContain('\nloom_backup_last_proven_timestamp_seconds 0\n');
    expect(text).toContain('\nloom_backup_last_bytes Nan\n');
    expect(text).toContain('\nloom_backup_store_up Nan\n');
    backups.observation = observation;
  });

  test('without the database, nothing looks current, and no counter goes back to 0', async () => {
    const { observe } = backups;
    backups.observe = () => Promise.reject(new Error('away'));
    expect(await status()).toMatchObject({
      store: 'file:///var/lib/loom/backups',
      up: null,
      faulty_backups: null,
      running: null,
    });
    const text = await metrics();
    expect(text).toContain('\nloom_backup_faulty Nan\n');
    expect(text).toContain('\nloom_backup_last_success_timestamp_seconds Nan\n');
    expect(text).not.toContain('\nloom_backup_runs_total{');
    backups.observe = observe;
  });
});
