import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { chooseMaxConnections, trackConnections } from '../../../src/http/connections.ts';
import { limits } from '../../../src/limits.ts';
import { openHostile, requestHead } from '../../setup/faults/hostile.ts';
import { asAdmin, asClient, createTestServer, json, type TestServer } from '../../setup/node/http.ts';

let server: TestServer;
let port: number;
const sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await server.close({ timeoutMs: 100 });
});

async function start(bounds: Parameters<typeof createTestServer>[1]): Promise<void> {
  server = await createTestServer({}, bounds);
  ({ port } = await server.listen());
}

function open(bytes = '', reads = true) {
  const client = openHostile({ port, bytes, reads });
  sockets.push(client.socket);
  return client;
}

/** Sends one request on a new connection. Resolves with everything that the node answers until it closes. */
async function ask(path: string, headers: Record<string, string> = {}): Promise<string> {
  const client = open(requestHead('GET', path, { connection: 'close', ...headers }));
  await client.closed;
  return client.received();
}

const count = () => server.request('GET', '/v1/admin/status', { headers: asAdmin }).then((answer) => answer.json());

async function eventually(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await sleep(10);
}

describe('a connection without a request', () => {
  test('is closed in time: silent ones without an answer, and those that send a head byte by byte with one', async () => {
    await start({ headersTimeoutMs: 400, silentTimeoutMs: 700 });
    const silent = Array.from({ length: 50 }, () => open());
    const slow = openHostile({
      port,
      bytes: 'GET /live HTTP/1.1\r\nx: ',
      reads: true,
      drip: { bytes: 'x', everyMs: 20 },
    });
    await Promise.all([...silent, slow].map(({ closed }) => closed));
    expect(slow.received()).toMatch(/^HTTP\/1.1 408 /);
    expect(silent.map(({ received }) => received()).join('')).toBe('');
    await eventually(async () => (await count()).connections.open === 0);
  });

  test('that a load balancer opened in advance serves a request after the time for headers', async () => {
    await start({ headersTimeoutMs: 100 });
    const early = open();
    const slow = open('GET');
    await slow.closed;
    await sleep(100);
    early.socket.write(requestHead('GET', '/live', {}));
    await eventually(() => early.received().includes('"ok":true'));
    early.socket.write('GET /live HTTP/1.1\r\n');
    await early.closed;
    expect(early.received()).toMatch(/\n\{"ok":true\}\nHTTP\/1.1 408 /);
  });
});

describe('a write that arrives after the node has closed its side', () => {
  const write = `${requestHead('PUT', '/v1/documents/late', { ...asClient, ...json, 'content-length': '1' })}1`;

  test('is not made: behind a 408, and during a shutdown', async () => {
    await start({ headersTimeoutMs: 100 });
    const slow = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    sockets.push(slow);
    slow.write('PUT /v1/documents/late HTTP/1.1\r\n');
    await once(slow.resume(), 'end');
    slow.on('error', () => undefined).end(`host: x\r\n${write.slice(write.indexOf('\n') + 1)}${write}`);
    await once(slow, 'close');
    const idle = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    sockets.push(idle);
    await eventually(async () => (await count()).connections.open === 1);
    const closed = server.close({ timeoutMs: 5_000 });
    await once(idle.resume(), 'end');
    idle.on('error', () => undefined).end(write);
    await Promise.all([once(idle, 'close'), closed]);
    const made = server.logged.text().match(/"path":"\/v1\/documents\/late"/g) ?? [];
    expect(made).toEqual([]);
  });
});

test('a read that waits for its share of the pool ends when its client disconnects', async () => {
  server = await createTestServer({ LOOM_PG_POOL_MAX: '3', LOOM_PG_CONNECT_TIMEOUT_MS: '60000' });
  ({ port } = await server.listen());
  for (const name of ['a', 'b', 'c']) {
    await server.request('PUT', `/v1/documents/${name}`, { body: JSON.stringify('x'.repeat(7_000_000)) });
  }
  const unread = open(requestHead('GET', '/v1/state', asAdmin), false);
  await once(unread.socket, 'readable');
  for (const [path, headers] of [
    ['/v1/state', asAdmin],
    ['/v1/audit', { ...asAdmin, accept: 'application/x-ndjson' }],
  ] as const) {
    const waits = open(requestHead('GET', path, headers));
    await eventually(() => server.store.observe().pool.waiting === 1);
    waits.socket.destroy();
    await eventually(() => server.store.observe().pool.waiting === 0);
  }
});

test('an answer that has begun is cut off at the end of a shutdown, and logged with its status', async () => {
  await start({});
  // Larger than the buffers on the way, so that the backup waits for its client.
  for (const name of ['a', 'b', 'c']) {
    await server.request('PUT', `/v1/documents/${name}`, { body: JSON.stringify('x'.repeat(7_000_000)) });
  }
  const client = open(requestHead('GET', '/v1/admin/persistence/backup', asAdmin), false);
  await once(client.socket, 'readable');
  await server.close({ timeoutMs: 100 });
  const line = server.logged
    .text()
    .split('\n')
    .find((text) => text.includes('"path":"/v1/admin/persistence/backup"'));
  expect(JSON.parse(line ?? '{}')).toMatchObject({ status: 200, complete: false });
  expect(server.logged.text()).not.toContain('already sent');
});

test('the responses to pipelined requests are forgotten when their client disconnects', async () => {
  const held = createServer(() => undefined).listen(0, '127.0.0.1');
  await once(held, 'listening');
  const never = { silentTimeoutMs: 60_000, paceWindowMs: 60_000, onSlowClient: () => undefined };
  const connections = trackConnections(held, { maxConnections: 10, isDraining: () => false, ...never });
  const address = held.address();
  port = typeof address === 'object' ? (address?.port ?? 0) : 0;
  const client = open(requestHead('GET', '/', {}).repeat(20));
  await eventually(() => connections.openResponses().length === 20);
  client.socket.destroy();
  await eventually(() => connections.isEmpty());
  expect(connections.openResponses()).toEqual([]);
  held.close();
});

describe('at the maximum of connections', () => {
  test('the oldest silent connection makes room, then the one that has been idle for the longest time', async () => {
    await start({ maxConnections: 3 });
    const idle = open(requestHead('GET', '/live', {}));
    await eventually(() => idle.received().includes('"ok":true'));
    const [first, second] = [open(), open()];
    await eventually(async () => (await count()).connections.open === 3);
    expect(await ask('/live')).toContain('200 OK');
    await first.closed;
    open();
    await eventually(async () => (await count()).connections.open === 3);
    open();
    await second.closed;
    expect(idle.socket.destroyed).toBe(false);
  });

  test('a probe is answered although all connections have a request in flight, and any other request gets 503', async () => {
    await start({ maxConnections: 3 });
    const upload = requestHead('PUT', '/v1/documents/x', { ...asClient, ...json, 'content-length': '100' });
    for (let index = 0; index < 3; index += 1) open(upload);
    await eventually(async () => (await count()).connections.open === 3 && (await count()).connections.idle === 0);
    for (const path of ['/live', '/ready', '/metrics']) {
      expect(await ask(path, asAdmin)).toMatch(/^HTTP\/1.1 200 [\s\S]*connection: close/i);
    }
    expect(await ask('/v1/documents', asAdmin)).toMatch(/^HTTP\/1.1 503 [\s\S]*retry-after: \d[\s\S]*node_busy/i);
    // A flood of connections beyond them does not keep a probe out either: silent ones give way to it.
    for (let index = 0; index < 2 * limits.maxProbeConnections; index += 1) open();
    expect(await ask('/ready')).toContain('200 OK');
  });

  test('requests keep no place that is for probes, even if they take the places of silent connections', async () => {
    await start({ maxConnections: 3 });
    const upload = requestHead('PUT', '/v1/documents/x', { ...asClient, ...json, 'content-length': '100' });
    for (let index = 0; index < 3; index += 1) open(upload);
    await eventually(async () => (await count()).connections.open === 3 && (await count()).connections.idle === 0);
    const silent = Array.from({ length: limits.maxProbeConnections }, () => open());
    await eventually(async () => (await count()).connections.idle === limits.maxProbeConnections);
    for (let index = 0; index < silent.length; index += 1) {
      const late = open(upload);
      await late.closed;
      expect(late.received()).toMatch(/^HTTP\/1.1 503 [\s\S]*node_busy/);
    }
    expect(await ask('/ready')).toContain('200 OK');
  });

  test('a probe that is slow to begin keeps its place while there is room for others', async () => {
    await start({ maxConnections: 3 });
    const upload = requestHead('PUT', '/v1/documents/x', { ...asClient, ...json, 'content-length': '100' });
    for (let index = 0; index < 3; index += 1) open(upload);
    await eventually(async () => (await count()).connections.open === 3 && (await count()).connections.idle === 0);
    const probe = open();
    await eventually(async () => (await count()).connections.idle === 1);
    for (let index = 1; index < limits.maxProbeConnections; index += 1) open();
    await eventually(async () => (await count()).connections.idle === limits.maxProbeConnections);
    probe.socket.write(requestHead('GET', '/live', {}));
    await probe.closed;
    expect(probe.received()).toContain('200 OK');
  });

  test('an idle connection gives its place to a new one, whatever is beyond the maximum', async () => {
    await start({ maxConnections: 3 });
    const upload = requestHead('PUT', '/v1/documents/x', { ...asClient, ...json, 'content-length': '3' });
    const uploads = Array.from({ length: 3 }, () => open(upload));
    await eventually(async () => (await count()).connections.open === 3 && (await count()).connections.idle === 0);
    open();
    await eventually(async () => (await count()).connections.open === 4);
    uploads[0]?.socket.write('"a"');
    await eventually(async () => (await count()).connections.idle === 2);
    expect(await ask('/v1/documents', asAdmin)).toContain('200 OK');
  });

  test('comes from the limit of open files, without what the pool, the log and probes need', () => {
    const choose = (openFiles: number, configured?: number) =>
      chooseMaxConnections({ configured, poolMax: 10 }, openFiles);
    expect(choose(400)).toBe(400 - 10 - limits.reservedFiles - limits.maxProbeConnections);
    expect(choose(1_000_000)).toBe(limits.maxConnections);
    expect(choose(1_000_000, 50_000)).toBe(50_000);
    expect(choose(400, 5_000)).toBe(choose(400));
    expect(choose(1)).toBe(limits.minConnections);
    expect(chooseMaxConnections({ configured: undefined, poolMax: 10 })).toBeGreaterThanOrEqual(limits.minConnections);
  });
});

test('a request that waits behind another one is never begun if its client disconnects, and keeps no memory', async () => {
  await start({});
  const upload = requestHead('PUT', '/v1/documents/x', { ...asClient, ...json, 'content-length': '5' });
  // The second request is complete, and waits for the first, whose commit waits for the row.
  const lock = await server.pool.connect();
  await lock.query('begin; select from loom_state for update');
  const client = open(`${upload}"abc"${requestHead('GET', '/v1/admin/persistence/backup', asAdmin)}`);
  await eventually(() => server.store.observe().queueDepth === 1);
  client.socket.destroy();
  await eventually(async () => (await count()).connections.open === 0);
  await lock.query('rollback');
  lock.release();
  await eventually(async () => {
    const { memory } = await count();
    return memory.bodies_bytes === 0 && memory.answers_bytes === 0;
  });
  expect(server.logged.text()).toContain('"path":"/v1/documents/x"');
  expect(server.logged.text()).not.toContain('"path":"/v1/admin/persistence/backup"');
});
