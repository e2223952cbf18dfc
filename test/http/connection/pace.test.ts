import type { IncomingMessage } from 'node:http';
import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createMemoryBudget } from '../../../src/domain/memory.ts';
import type { Store } from '../../../src/domain/store.ts';
import { createPace } from '../../../src/http/pace.ts';
import { openRawBody } from '../../../src/http/request/raw-body.ts';
import { limits } from '../../../src/limits.ts';
import { bodyChunk, openHostile, requestHead } from '../../setup/faults/hostile.ts';
import {
  asAdmin,
  asClient,
  createBareServer,
  createTestServer,
  json,
  type TestServer,
  testConfig,
} from '../../setup/node/http.ts';

const RATE = limits.minClientBytesPerSecond;

describe('the pace of a client', () => {
  test('is judged after a whole window in which the node waited for it', () => {
    const pace = createPace(1_000);
    for (let ms = 0; ms < 900; ms += 100) expect(pace.isTooSlow(100, 0)).toBe(false);
    expect(pace.isTooSlow(100, 0)).toBe(true);
  });

  test('counts no time in which the node or the database is the slow side', () => {
    const pace = createPace(1_000);
    for (let sample = 0; sample < 1_000; sample += 1) expect(pace.isTooSlow(0, 1)).toBe(false);
  });

  test('is an average over the window: pauses are allowed, and early speed does not count for ever', () => {
    const pace = createPace(1_000);
    for (let sample = 0; sample < 50; sample += 1) {
      expect(pace.isTooSlow(100, sample % 5 === 0 ? RATE / 2 : 0)).toBe(false);
    }
    const stalled = Array.from({ length: 12 }, () => pace.isTooSlow(100, 0));
    expect(stalled.at(-1)).toBe(true);
    const fast = createPace(1_000);
    fast.isTooSlow(100, 1_000 * RATE);
    expect(Array.from({ length: 12 }, () => fast.isTooSlow(100, 0)).at(-1)).toBe(true);
  });
});

test('an answer that loses its memory to others is logged and reported with its code', async () => {
  const bounds = { purpose: 'tests', minHoldMs: 0, now: () => performance.now() };
  const answers = createMemoryBudget({ ...bounds, maxBytes: 20_000_000 });
  const memory = { answers, bodies: createMemoryBudget({ ...bounds, maxBytes: 1_000 }) };
  const text = JSON.stringify('x'.repeat(15_000_000));
  const store = { readDocument: async () => ({ text, epoch: 'e', revision: 1, updatedAt: '2026-01-01T00:00:00Z' }) };
  const node = createBareServer(store as unknown as Store, testConfig('postgres://x@localhost/x'), { memory });
  try {
    const { port } = await node.listen();
    const client = openHostile({ port, bytes: requestHead('GET', '/v1/documents/a', asClient), reads: false });
    await expect.poll(answers.usedBytes, { timeout: 20_000 }).toBeGreaterThan(text.length);
    await sleep(1);
    answers.open().resize(10_000_000);
    const line = (): string | undefined =>
      node.logged
        .text()
        .split('\n')
        .find((one) => one.includes('"complete":false'));
    await expect.poll(line, { timeout: 20_000 }).toMatch(/"status":200.*"code":"node_busy"/);
    client.socket.destroy();
  } finally {
    await node.close({ timeoutMs: 100 });
  }
});

test('a body does not time out while its reader is the slow side, and does when its client is', async () => {
  const source = new PassThrough();
  const body = openRawBody(source as unknown as IncomingMessage, {
    maxBytes: 1e9,
    paceWindowMs: 100,
    onBytes: () => undefined,
  });
  source.write(Buffer.alloc(1_000_000));
  body.read(1);
  await sleep(500);
  expect(body.errored).toBeNull();
  body.resume();
  await expect(new Promise((_resolve, reject) => body.on('error', reject))).rejects.toMatchObject({
    code: 'request_timeout',
    message: `The client sent fewer than ${RATE} bytes a second over 0.1 s.`,
  });
});

describe('a client that moves bytes too slowly', () => {
  let server: TestServer;
  let port: number;
  beforeAll(async () => {
    server = await createTestServer({}, { paceWindowMs: 500 });
    ({ port } = await server.listen());
    // More than the buffers of the kernel on the way.
    for (const name of ['a', 'b', 'c', 'd']) {
      await server.request('PUT', `/v1/documents/${name}`, { body: JSON.stringify('x'.repeat(7_500_000)) });
    }
  });
  afterAll(() => server.close({ timeoutMs: 1_000 }));

  const disconnected = (): number => server.logged.text().split('client too slow, connection reset').length - 1;

  async function expectNothingHeld(): Promise<void> {
    const look = async () => {
      const { memory, operations, pool } = (
        await server.request('GET', '/v1/admin/status', { headers: asAdmin })
      ).json();
      return [memory.bodies_bytes, memory.answers_bytes, operations.length, pool.total - pool.idle];
    };
    await expect.poll(look, { timeout: 20_000 }).toEqual([0, 0, 0, 0]);
  }

  test.each([
    ['document', 'PUT', '/v1/documents/x', asClient, '"'],
    ['restore', 'POST', '/v1/admin/persistence/restore', asAdmin, '{"confirm":"restore","backup":{'],
  ])(
    'gets 408 for a %s that arrives at a few bytes a second, and holds nothing after it',
    async (_what, method, path, token, start) => {
      const head = requestHead(method, path, { ...token, ...json, 'transfer-encoding': 'chunked' });
      const bytes = Buffer.concat([Buffer.from(head), bodyChunk(Buffer.from(start))]);
      const client = openHostile({ port, bytes, reads: true, drip: { bytes: '1\r\n \r\n', everyMs: 50 } });
      await client.closed;
      expect(client.received()).toMatch(/^HTTP\/1.1 408 /);
      expect(client.received()).toContain(`fewer than ${RATE} bytes a second over 0.5 s`);
      await expectNothingHeld();
    },
  );

  test.each([
    ['a document', '/v1/documents/a', {}],
    ['the state', '/v1/state', {}],
    ['the trail', '/v1/audit', { accept: 'application/x-ndjson' }],
    ['a page of the trail', '/v1/audit', {}],
    ['a backup', '/v1/admin/persistence/backup', {}],
    ['many answers', '/v1/documents/b', { many: '1' }],
  ])(
    'and reads nothing of %s is disconnected, and holds nothing after it',
    async (_what, path, { many, ...headers }: Record<string, string>) => {
      const before = disconnected();
      const request = requestHead('GET', path, { ...asAdmin, ...headers });
      const client = openHostile({ port, bytes: many === undefined ? request : request.repeat(5), reads: false });
      // The client does not notice the reset, because it does not read.
      await expect.poll(disconnected, { timeout: 20_000 }).toBe(before + 1);
      await expectNothingHeld();
      client.socket.destroy();
    },
  );

  test('that is slow but honest has its answer in full', async () => {
    const answer = await fetch(`http://127.0.0.1:${port}/v1/documents/a`, { headers: asAdmin });
    let bytes = 0;
    for await (const chunk of answer.body ?? []) {
      bytes += chunk.length;
      await sleep(5);
    }
    expect(bytes).toBe(7_500_003);
  });
});
