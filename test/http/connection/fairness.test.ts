import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { limits } from '../../../src/limits.ts';
import { asAdmin, asClient, createTestServer, type TestServer } from '../../setup/node/http.ts';
import { POOLED_CONNECTIONS, usesPooler } from '../../setup/roles/pooled.ts';

const DOCUMENTS = 500;

/** Streams take no connection to the server that commits and short reads need. One of them is kept for operators. */
const STREAMS = usesPooler ? POOLED_CONNECTIONS - 1 : 5;

let server: TestServer;
let port: number;
const stuck: Socket[] = [];
beforeAll(async () => {
  server = await createTestServer({
    LOOM_PG_CONNECT_TIMEOUT_MS: '1000',
    LOOM_PG_STREAMS_MAX: String(STREAMS),
    LOOM_LOG_LEVEL: 'silent',
  });
  ({ port } = await server.listen());
  // More than all buffers between the database and a reader that stands still. No document is large: the node takes the
  // memory for a large one from a reader that stands still, and the connection with it.
  const text = (): string => randomBytes(36_000).toString('base64');
  const state = Object.fromEntries(Array.from({ length: DOCUMENTS }, (_, index) => [`document-${index}`, text()]));
  expect((await server.request('PUT', '/v1/state', { body: JSON.stringify(state) })).status).toBe(200);
});
afterEach(async () => {
  for (const socket of stuck.splice(0)) socket.destroy();
  await expect.poll(async () => (await streamsInUse()).used, { timeout: 10_000 }).toBe(0);
});
afterAll(() => server.close({ timeoutMs: 1_000 }));

/** Sends a request and reads nothing of the answer. `more` follows the head; the rest of the body never comes. */
async function standStill(method: string, path: string, headers: Record<string, string>, more = ''): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  stuck.push(socket);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  const lines = Object.entries({ host: 'x', ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${more}`);
}

async function streamsInUse(): Promise<{ used: number; max: number }> {
  return (await server.request('GET', '/v1/admin/status', { headers: asAdmin })).json().pool.streams;
}

/** Makes 200 commits and reads, ten at a time, and returns their statuses. */
async function serveOthers(): Promise<number[]> {
  const statuses: number[] = [];
  for (let round = 0; round < 10; round += 1) {
    const requests = Array.from({ length: 10 }, (_, index) => [
      server.request('PUT', `/v1/documents/other-${index}`, { body: String(round) }),
      server.request('GET', '/v1/documents?limit=10'),
    ]);
    statuses.push(...(await Promise.all(requests.flat())).map(({ status }) => status));
  }
  return statuses;
}

const firstBytes = '{"confirm":"restore","replace_state":true,"backup":{"loom_backup_version":1,';

describe('with all connections for streams taken', () => {
  test('by readers that stand still, commits and short reads are served, and an operator can back up and verify', async () => {
    for (let index = 0; index < 12; index += 1) await standStill('GET', '/v1/state', asClient);
    await expect.poll(streamsInUse, { timeout: 10_000 }).toEqual({ used: STREAMS - 1, max: STREAMS });
    const statuses = await serveOthers();
    expect(statuses).toHaveLength(200);
    expect(statuses.filter((status) => status !== 200 && status !== 201)).toEqual([]);

    const refused = await server.request('GET', '/v1/state');
    expect(refused.status).toBe(503);
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
    expect(refused.json()).toMatchObject({
      code: 'streams_busy',
      detail: expect.stringContaining(`at most ${STREAMS - 1} of its connections`),
    });
    expect((await server.request('GET', '/v1/audit/verify', { headers: asAdmin })).json()).toMatchObject({ ok: true });
    const backup = await server.request('GET', '/v1/admin/persistence/backup?include_audit=false', {
      headers: asAdmin,
    });
    expect(backup.json()).toMatchObject({ manifest: { documents: DOCUMENTS + 10 } });
    const metrics = await server.request('GET', '/metrics', { headers: asAdmin });
    expect(metrics.text).toContain(`loom_pool_streams{condition="used"} ${STREAMS - 1}`);
  });

  test('by uploads and backups that stand still, commits and short reads are served, and clients can read the state', async () => {
    const upload = { ...asAdmin, 'content-type': 'application/json', 'content-length': '1000000' };
    for (let index = 0; index < 6; index += 1) {
      await standStill('POST', '/v1/admin/persistence/restore', upload, firstBytes);
      await standStill('GET', '/v1/admin/persistence/backup', asAdmin);
    }
    await expect.poll(streamsInUse, { timeout: 10_000 }).toEqual({ used: STREAMS - 1, max: STREAMS });
    expect((await serveOthers()).filter((status) => status >= 400)).toEqual([]);
    expect((await server.request('GET', '/v1/state')).status).toBe(200);
    const refused = await server.request('GET', '/v1/audit/verify', { headers: asAdmin });
    expect([refused.status, refused.json().code]).toEqual([503, 'streams_busy']);
  });
});

test('a backup that is read slowly is not cut off by readers of large documents', async () => {
  const path = '/v1/documents/large';
  const body = JSON.stringify('x'.repeat(limits.maxDocumentBytes - 100));
  expect((await server.request('PUT', path, { body })).status).toBe(201);
  const headers = { ...asAdmin, 'accept-encoding': 'identity' };
  const answer = await fetch(`http://127.0.0.1:${port}/v1/admin/persistence/backup`, { headers });
  const chunks: Buffer[] = [];
  for await (const chunk of answer.body ?? []) {
    chunks.push(Buffer.from(chunk));
    if (chunks.length > 1) continue;
    // Now the node may take its memory.
    await sleep(limits.minMemoryHoldMs + 100);
    const readers = Array.from({ length: 3 }, () => server.request('GET', path));
    expect((await Promise.all(readers)).map(({ status }) => status)).toEqual([200, 200, 200]);
  }
  expect(JSON.parse(Buffer.concat(chunks).toString('utf8'))).toMatchObject({ manifest: { audit_verified: true } });
  expect((await server.request('DELETE', path)).status).toBe(200);
});
