import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { StatusReport } from '../../../src/domain/status.ts';
import { limits } from '../../../src/limits.ts';
import { depth, rounds } from '../../setup/depth.ts';
import { type HostileClient, openHostile } from '../../setup/faults/hostile.ts';
import { type Program, startProgram, waitUntilReady } from '../../setup/node/program.ts';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';

const ADMIN_TOKEN = 'admin-token-of-the-hostile-test';
const MAX_CONNECTIONS = 300;

let database: TestDatabase;
let node: Program;
const clients: HostileClient[] = [];
beforeAll(async () => {
  database = await createTestDatabase();
  const env = { LOOM_PG_URL: database.url, LOOM_ADMIN_TOKEN: ADMIN_TOKEN };
  node = await startProgram({ env: { ...env, LOOM_MAX_CONNECTIONS: String(MAX_CONNECTIONS) } });
  await waitUntilReady(node.url);
});
afterAll(async () => {
  for (const { socket } of clients) socket.destroy();
  await node.stop();
  await database.drop();
});

/**
 * Asks for readiness on a new connection, as a probe does. Resolves with the time in milliseconds; rejects if not 200.
 */
function probe(): Promise<number> {
  const startedMs = performance.now();
  return new Promise((resolve, reject) => {
    request(`${node.url}/ready`, { agent: false }, (answer) => {
      answer.resume();
      if (answer.statusCode === 200) answer.on('end', () => resolve(performance.now() - startedMs));
      else reject(new Error(`/ready answered ${answer.statusCode}`));
    })
      .on('error', reject)
      .end();
  });
}

test('silent sockets and heads that never end keep no probe out', async () => {
  const port = Number(new URL(node.url).port);
  const many = rounds({ quick: 700, full: 2_000 });
  const times: number[] = [];
  for (let index = 0; index < many; index += 1) {
    const drip = { bytes: 'x', everyMs: 1_000 };
    const head = 'GET /v1/state HTTP/1.1\r\nx: ';
    clients.push(
      openHostile(index % 2 === 0 ? { port, bytes: '', reads: true } : { port, bytes: head, reads: true, drip }),
    );
    if (index % 50 === 0) times.push(await probe());
  }
  for (let index = 0; index < 20; index += 1) {
    times.push(await probe());
    await sleep(50);
  }
  const answer = await fetch(`${node.url}/v1/admin/status`, { headers: { 'x-loom-admin-token': ADMIN_TOKEN } });
  const { connections } = (await answer.json()) as StatusReport;
  expect(connections.max).toBe(MAX_CONNECTIONS);
  expect(connections.open).toBeLessThanOrEqual(MAX_CONNECTIONS + limits.maxProbeConnections);
  if (depth === 'full') process.stdout.write(`${many} sockets: /ready within ${Math.round(Math.max(...times))} ms\n`);
});
