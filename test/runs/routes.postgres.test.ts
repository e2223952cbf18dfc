import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ConfigError } from '../../src/config/config.ts';
import type { BackupRun } from '../../src/domain/backup-run.ts';
import { type LoomNode, startNode } from '../../src/node.ts';
import { testConfig } from '../setup/node/config.ts';
import { captureLog } from '../setup/node/log.ts';
import { waitUntil, waitUntilReady } from '../setup/node/program.ts';
import { isNoMarker } from '../setup/object-store/object-store.ts';
import { createTestDatabase, type TestDatabase } from '../setup/server/database.ts';

const headers = { 'x-loom-admin-token': 'an-admin-token-for-tests', 'content-type': 'application/json' };
const BACKUPS = '/v1/admin/backups';

let database: TestDatabase;
let folder: string;
let node: LoomNode;
beforeAll(async () => {
  database = await createTestDatabase();
  folder = await mkdtemp(join(tmpdir(), 'loom-stored-'));
  node = await start({});
  await waitUntilReady(node.url);
});
afterAll(async () => {
  await node.close();
  await database.drop();
  await rm(folder, { recursive: true, force: true });
});

function start(variables: Record<string, string>): Promise<LoomNode> {
  const store = { LOOM_BACKUP_STORE: `file://${folder}`, LOOM_BACKUP_SCHEDULE: '0 0 1 1 *', ...variables };
  return startNode(testConfig(database.url, store), { log: captureLog().log });
}

async function send(method: string, path: string, body?: object, more: Record<string, string> = {}) {
  const answer = await fetch(`${node.url}${path}`, {
    method,
    headers: { ...headers, ...more },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: answer.status, headers: answer.headers, json: JSON.parse(await answer.text()) };
}

const take = async (): Promise<BackupRun> => (await send('POST', BACKUPS, undefined, { prefer: 'wait=60' })).json;

test('a node takes, proves, lists, sends, restores and deletes its stored backups', async () => {
  // With an empty catalogue, the node runs the last slot at once.
  const { runs } = await waitUntil(
    async () => (await send('GET', `${BACKUPS}/runs`)).json as { runs: BackupRun[] },
    (seen) => seen.runs[0]?.outcome === 'proven',
  );
  expect(runs).toMatchObject([{ kind: 'scheduled', code: null }]);
  await send('PUT', '/v1/documents/a', { at: 1 });
  const run = await take();
  expect(run).toMatchObject({ kind: 'manual', outcome: 'proven', restore_seconds: expect.any(Number) });
  const name = run.name ?? '';
  const { backups } = (await send('GET', BACKUPS)).json;
  expect(backups).toMatchObject([{ name, outcome: 'proven', encrypted: false, fault: null }, { kind: 'scheduled' }]);

  const answer = await fetch(`${node.url}${BACKUPS}/${name}`, { headers });
  const stored = await readFile(join(folder, name));
  expect(Buffer.from(await answer.arrayBuffer())).toEqual(stored);
  expect(answer.headers.get('etag')).toBe(`"${backups[0].sha256}"`);

  await send('PUT', '/v1/documents/a', { at: 2 });
  const restored = await send('POST', '/v1/admin/persistence/restore', { confirm: 'restore', from: name });
  expect(restored.json).toMatchObject({ stored_backup: name, verified: true, documents: { changed: 1 } });
  expect((await send('GET', '/v1/documents/a')).json).toEqual({ at: 1 });

  const kept = await send('DELETE', `${BACKUPS}/${name}`, { confirm: 'delete' });
  expect([kept.status, kept.json.code]).toEqual([409, 'stored_backup_kept']);
  const older = backups[1].name;
  expect((await send('DELETE', `${BACKUPS}/${older}`, { confirm: 'delete' })).json).toEqual({ name: older });
  expect((await send('DELETE', `${BACKUPS}/${older}`, { confirm: 'delete' })).status).toBe(404);
  expect((await readdir(folder)).filter(isNoMarker).sort()).toEqual([name, `${name}.manifest.json`].sort());

  const { stored_backups: status } = (await send('GET', '/v1/admin/status')).json;
  expect(status).toMatchObject({ store: `file://${folder}`, up: true, last_proven_at: backups[0].taken_at });
  const metrics = await (await fetch(`${node.url}/metrics`, { headers })).text();
  const at = Date.parse(backups[0].taken_at) / 1000;
  expect(metrics).toContain(`\nloom_backup_last_proven_timestamp_seconds ${at}`);
  expect(metrics).toContain('\nloom_backup_runs_total{kind="manual",outcome="proven"} 1\n');
});

test('a restore from a damaged stored backup is refused for the damage, wherever it is, and changes nothing', async () => {
  const { name } = await take();
  const path = join(folder, name ?? '');
  const whole = await readFile(path);
  const { revision } = (await send('GET', '/v1/documents')).json;
  const changes = [12, Math.floor(whole.length / 2), whole.length - 1].map((at) => {
    const spoiled = Buffer.from(whole);
    spoiled[at] = (spoiled[at] ?? 0) ^ 4;
    return spoiled;
  });
  for (const bytes of [...changes, whole.subarray(0, -20), Buffer.concat([whole, whole])]) {
    await writeFile(path, bytes);
    const answer = await send('POST', '/v1/admin/persistence/restore', { confirm: 'restore', from: name });
    expect([answer.status, answer.json.code]).toEqual([422, 'stored_backup_damaged']);
  }
  await rm(path);
  const gone = await send('POST', '/v1/admin/persistence/restore', { confirm: 'restore', from: name });
  expect([gone.status, gone.json.code]).toEqual([410, 'stored_backup_missing']);
  expect((await send('GET', `${BACKUPS}/${name}`)).json.code).toBe('stored_backup_missing');
  expect((await send('GET', '/v1/documents')).json.revision).toBe(revision);
  await writeFile(path, whole);
  const drill = await send('POST', `${BACKUPS}/${name}/drill`, undefined, { prefer: 'wait=60' });
  expect(drill.json).toMatchObject({ kind: 'drill', outcome: 'proven', name });
});

test('a key with a typing error stops the start, before the node listens', async () => {
  const recipient = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8q';
  const starting = start({ LOOM_BACKUP_RECIPIENTS: recipient, LOOM_BACKUP_IDENTITY: 'AGE-SECRET-KEY-1QQ' });
  const error = await starting.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ConfigError);
  const { problems } = error as ConfigError;
  expect(problems).toEqual([
    expect.stringMatching(/^LOOM_BACKUP_RECIPIENTS: recipient 1 of 1, .* is not a public key of age/),
    expect.stringMatching(/^LOOM_BACKUP_IDENTITY \(or its _FILE\): .*line 1/),
  ]);
  expect(problems.join()).not.toContain('KEY-1QQ');
});

test('odd names are answered as unknown, and the answer repeats no control character and no long text', async () => {
  const statuses = { stored_backup_not_found: 404, not_found: 404, invalid_parameter: 400, invalid_string: 422 };
  const names = [
    '%00',
    'a%00b',
    '%C2%85',
    '%E2%80%A8',
    'x'.repeat(8_000),
    '..%2F..%2Fetc%2Fpasswd',
    "'%3B--",
    '%F0%9F%92%BE',
  ];
  for (const name of names) {
    const requests: [string, string, object?][] = [
      ['GET', `${BACKUPS}/${name}`],
      ['DELETE', `${BACKUPS}/${name}`, { confirm: 'delete' }],
      ['POST', `${BACKUPS}/${name}/drill`],
      ['POST', '/v1/admin/persistence/restore', { confirm: 'restore', from: decodeURIComponent(name) }],
      ['GET', `${BACKUPS}?before=${name}`],
    ];
    for (const [method, path, body] of requests) {
      const { status, json } = await send(method, path, body);
      const label = `${method} ${path.slice(0, 80)}: ${JSON.stringify(json).slice(0, 300)}`;
      expect(statuses[json.code as keyof typeof statuses], label).toBe(status);
      expect(json.detail.length, label).toBeLessThan(3_000);
      expect(json.detail, label).not.toMatch(/[\p{Cc}\u2028\u2029]/u);
    }
  }
});
