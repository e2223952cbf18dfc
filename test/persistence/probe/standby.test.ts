import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type LoomNode, startNode } from '../../../src/node.ts';
import { testConfig } from '../../setup/node/config.ts';
import { captureLog } from '../../setup/node/log.ts';
import { type PrivateServer, startPrivateServer } from '../../setup/server/private-server.ts';

const headers = { 'x-loom-admin-token': 'an-admin-token-for-tests', 'content-type': 'application/json' };

let server: PrivateServer;
const nodes: LoomNode[] = [];
beforeAll(async () => {
  server = await startPrivateServer();
});
afterEach(async () => {
  await Promise.all(nodes.splice(0).map((node) => node.close()));
});
afterAll(() => server.stop());

async function start(url: string) {
  const captured = captureLog();
  const node = await startNode(testConfig(url, { LOOM_SHUTDOWN_DELAY_MS: '0' }), { log: captured.log });
  nodes.push(node);
  const lines = () => captured.lines.map((line) => JSON.parse(line));
  return {
    untilReason: (reason: string | undefined) =>
      expect.poll(() => node.readiness().reason, { timeout: 20_000, interval: 20 }).toBe(reason),
    get: (path: string) => fetch(`${node.url}${path}`, { headers }),
    put: (path: string) => fetch(`${node.url}${path}`, { method: 'PUT', headers, body: '1' }),
    warnings: () => lines().filter(({ level, reason }) => level === 'warn' && reason === 'db_read_only'),
    errors: () => lines().filter(({ level }) => level === 'error'),
  };
}

/** Runs statements on the server, outside every node. */
async function query(text: string): Promise<pg.QueryResult> {
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  try {
    return await client.query(text);
  } finally {
    await client.end();
  }
}

/** Starts the server again as a hot standby without a primary. `pg_promote` makes it a primary again. */
async function restartAsStandby(): Promise<void> {
  const { rows } = await query('show data_directory');
  await server.shutDown();
  await writeFile(join(rows[0].data_directory, 'standby.signal'), '');
  await server.startAgain();
}

test('a node that starts on a standby says so, serves reads, and writes after the promotion', async () => {
  const before = await start(server.url);
  await before.untilReason(undefined);
  expect((await before.put('/v1/documents/a')).status).toBe(201);
  await restartAsStandby();
  const node = await start(server.url);
  await Promise.all([node, before].map((one) => one.untilReason('db_read_only')));
  expect((await node.get('/ready')).status).toBe(503);
  expect(await (await node.get('/v1/admin/status')).json()).toMatchObject({
    ready: { ok: false, checks: { database: 'read_only', schema: 'ok' }, reason: 'db_read_only' },
    ready_detail: expect.stringContaining('The server is a standby'),
    database: { ok: false, version: expect.stringMatching(/^\d+/), code: 'db_read_only' },
  });
  await expect.poll(async () => (await node.get('/v1/documents/a')).status).toBe(200);
  const refused = await node.put('/v1/documents/a');
  expect([refused.status, await refused.json()]).toEqual([
    503,
    expect.objectContaining({ code: 'database_unavailable', detail: expect.stringContaining('read-only') }),
  ]);
  const undo = await fetch(`${nodes.at(-1)?.url}/v1/admin/persistence/undo`, {
    method: 'POST',
    headers,
    body: '{"confirm":"undo"}',
  });
  expect(await undo.json()).toMatchObject({
    code: 'database_unavailable',
    detail: expect.stringContaining('read-only'),
  });
  await query('select pg_promote()');
  await Promise.all([node, before].map((one) => one.untilReason(undefined)));
  await expect.poll(async () => (await node.put('/v1/documents/a')).status).toBe(200);
  expect(node.warnings()).toHaveLength(1);
  expect(node.warnings()[0].msg).toContain('The server is a standby');
  expect(node.errors().map(({ msg }) => msg)).toEqual(['undo failed']);
});

test('a node that starts on a standby without tables creates them after the promotion', async () => {
  await query('create database unused');
  await restartAsStandby();
  const node = await start(server.urlFor('unused'));
  await node.untilReason('db_read_only');
  expect((await node.put('/v1/documents/a')).status).toBe(503);
  await query('select pg_promote()');
  await node.untilReason(undefined);
  expect((await node.put('/v1/documents/a')).status).toBe(201);
  expect(node.errors()).toEqual([]);
});
