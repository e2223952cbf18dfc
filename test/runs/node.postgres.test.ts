import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createLogger } from '../../src/log.ts';
import { startNode } from '../../src/node.ts';
import { asAdmin, testConfig } from '../setup/node/http.ts';
import { waitUntil } from '../setup/node/program.ts';
import { createTestDatabase, type TestDatabase } from '../setup/server/database.ts';

const TOKEN = 'a-long-token-that-nobody-may-see';

let database: TestDatabase;
let directory: string;
beforeAll(async () => {
  database = await createTestDatabase();
  directory = await mkdtemp(join(tmpdir(), 'loom-test-store-'));
});
afterAll(async () => {
  await database.drop();
  await rm(directory, { recursive: true, force: true });
});

/** A dead man's switch. It records the paths of its requests. */
async function startSwitch() {
  const paths: string[] = [];
  const server = createServer(({ url = '' }, answer) => {
    paths.push(url);
    answer.end('OK');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return { paths, url: `http://127.0.0.1:${port}/${TOKEN}`, close: () => server.close() };
}

async function readStatus(url: string) {
  const answer = await fetch(`${url}/v1/admin/status`, { headers: asAdmin });
  return ((await answer.json()) as { stored_backups: Record<string, unknown> }).stored_backups;
}

test('a node takes its first backup at once, proves it, and tells the dead man’s switch', async () => {
  const lines: string[] = [];
  const ping = await startSwitch();
  const config = testConfig(database.url, {
    LOOM_BACKUP_STORE: `file://${directory}`,
    LOOM_BACKUP_SCHEDULE: '0 0 1 * *',
    LOOM_BACKUP_PING_URL: ping.url,
  });
  const log = createLogger({ level: 'trace', stream: { write: (line) => void lines.push(line) } });
  const node = await startNode(config, { log });
  const status = await waitUntil(
    () => readStatus(node.url),
    ({ last_success_at: at, up }) => at !== null && up === true,
  );
  expect(status).toMatchObject({ store: `file://${directory}`, fault: null, last_failure: null, running: [] });
  await waitUntil(
    () => Promise.resolve(ping.paths),
    (paths) => paths.length > 0,
  );
  expect(ping.paths).toEqual([`/${TOKEN}`]);
  // The backup, its manifest, and the marker of the store.
  expect(await readdir(directory)).toHaveLength(3);
  // The folder vanishes, as a mount does.
  await rm(directory, { recursive: true });
  const taken = await fetch(`${node.url}/v1/admin/backups`, { method: 'POST', headers: asAdmin });
  expect(taken.status).toBe(202);
  await waitUntil(
    () => Promise.resolve(ping.paths),
    (paths) => paths.length > 1,
  );
  expect(ping.paths[1]).toBe(`/${TOKEN}/fail`);
  expect(await readStatus(node.url)).toMatchObject({ up: false, fault: { code: 'store_unreachable' } });
  expect((await fetch(`${node.url}/ready`)).status).toBe(200);
  await node.close();
  ping.close();
  expect(lines.join('')).not.toContain(TOKEN);
});
