import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Store } from '../../src/domain/store.ts';
import { LoomError } from '../../src/errors.ts';
import { rounds } from '../setup/depth.ts';
import {
  asAdmin,
  asClient,
  type BareServer,
  createBareServer,
  createTestServer,
  json,
  type TestServer,
  testConfig,
} from '../setup/node/http.ts';

const BACKUP = '/v1/admin/persistence/backup';
const RESTORE = '/v1/admin/persistence/restore';

let server: TestServer;
let port: number;
beforeAll(async () => {
  server = await createTestServer({}, { paceWindowMs: 300 });
  ({ port } = await server.listen());
  // Random text does not compress, so even gzipped it is larger than all buffers on the way.
  for (const name of ['a', 'b', 'c', 'd']) {
    const body = JSON.stringify(randomBytes(3_000_000).toString('base64'));
    expect((await server.request('PUT', `/v1/documents/${name}`, { body })).status).toBe(201);
  }
});
afterAll(() => server.close({ timeoutMs: 1_000 }));

/** Writes bytes to a plain socket. Resolves with all bytes received until the server closes it. */
async function exchange(bytes: string | Buffer, toPort = port): Promise<string> {
  const socket = connect(toPort, '127.0.0.1');
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.on('error', () => undefined);
  socket.write(bytes);
  await once(socket, 'close');
  return Buffer.concat(chunks).toString('latin1');
}

function head(lines: string[]): string {
  return `${lines.join('\r\n')}\r\n\r\n`;
}

function open(path: string, headers: Record<string, string> = asAdmin, toPort = port): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    httpRequest({ host: '127.0.0.1', port: toPort, path, headers, agent: false }, resolve).on('error', reject).end();
  });
}

async function read(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function eventually(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await wait(10);
}

describe('input that is not HTTP', () => {
  test.each([
    ['nonsense', 'HELLO\r\n\r\n', '400', 'malformed_request'],
    [
      'a header of 20 KiB',
      head(['GET /live HTTP/1.1', 'host: x', `x: ${'a'.repeat(20_000)}`]),
      '431',
      'headers_too_large',
    ],
  ])('is answered with a problem: %s', async (_what, bytes, status, code) => {
    const answer = await exchange(bytes);
    expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(answer).toMatch(/connection: close/i);
    expect(JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4))).toMatchObject({
      code,
      request_id: expect.any(String),
    });
  });
});

describe('an upload', () => {
  test('is refused before it has been read, and is not read for ever', async () => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write(
      head([`POST ${RESTORE} HTTP/1.1`, 'host: x', 'content-type: application/json', 'transfer-encoding: chunked']),
    );
    const [first] = await once(socket, 'data');
    expect(String(first)).toMatch(/^HTTP\/1.1 401 [\s\S]*connection: close[\s\S]*unauthenticated/i);
    const endless = setInterval(() => socket.write(`10000\r\n${'x'.repeat(65_536)}\r\n`), 1);
    await once(socket, 'close');
    clearInterval(endless);
  });

  test('that is small and refused leaves its connection open', async () => {
    const body = '{"a":1}';
    const lines = [
      'PUT /v1/documents/x HTTP/1.1',
      'host: x',
      'content-type: application/json',
      `content-length: ${body.length}`,
    ];
    const two =
      head(lines) + body + head([...lines.slice(0, 3), `content-length: ${body.length}`, 'connection: close']) + body;
    expect((await exchange(two)).match(/HTTP\/1.1 401/g)).toHaveLength(2);
  });

  test('times out when no byte arrives', async () => {
    const lines = ['PUT /v1/documents/x HTTP/1.1', 'host: x', `authorization: ${asClient.authorization}`];
    const answer = await exchange(`${head([...lines, 'content-type: application/json', 'content-length: 100'])}{"a":`);
    expect(answer).toMatch(/^HTTP\/1.1 408 [\s\S]*request_timeout/);
  });

  test('aborts the restore when its client disconnects, and the node keeps serving', async () => {
    const socket = connect(port, '127.0.0.1');
    socket.write(
      head([
        `POST ${RESTORE} HTTP/1.1`,
        'host: x',
        `x-loom-admin-token: ${asAdmin['x-loom-admin-token']}`,
        'content-type: application/json',
        'content-length: 1000',
      ]),
    );
    socket.write('{"confirm":"restore","backup":{');
    await eventually(() => server.store.observe().operations.length === 1);
    socket.destroy();
    await eventually(() => server.store.observe().operations.length === 0);
    expect((await server.request('GET', '/v1/documents/a')).status).toBe(200);
  });

  test.each([
    ['is not JSON', Buffer.from('{"confirm":nonsense}'), 400, 'invalid_json'],
    [
      'is truncated gzip data',
      gzipSync(`{"confirm":"restore","backup":{"state":{"a":"${'x'.repeat(500)}`).subarray(0, 40),
      422,
      'backup_incomplete',
    ],
  ])('to restore is refused with a problem when it %s', async (what, body, status, code) => {
    const headers = { ...asAdmin, ...(what.includes('gzip') ? { 'content-encoding': 'gzip' } : {}) };
    const refused = await server.request('POST', RESTORE, { body, headers });
    expect(refused.json()).toMatchObject({ status, code });
  });
});

describe('a backup', () => {
  test('is JSON with a file name, gzipped if the client accepts it, and its time is in status', async () => {
    const plain = await open(`${BACKUP}?include_audit=false`);
    expect(plain.headers['content-disposition']).toMatch(
      /^attachment; filename="loom-backup-default-\d{8}T\d{6}Z\.json"$/,
    );
    expect(plain.headers).toMatchObject({
      'content-type': 'application/json',
      vary: 'accept-encoding',
      'cache-control': 'no-store',
    });
    expect(plain.headers['content-encoding']).toBeUndefined();
    const { state } = JSON.parse((await read(plain)).toString());
    const { last_backup_at } = (await server.request('GET', '/v1/admin/status', { headers: asAdmin })).json();
    expect(last_backup_at).not.toBeNull();

    const packed = await open(`${BACKUP}?include_audit=0`, { ...asAdmin, 'accept-encoding': 'br, gzip;q=0.5' });
    expect(packed.headers['content-encoding']).toBe('gzip');
    expect(JSON.parse(gunzipSync(await read(packed)).toString()).state).toEqual(state);
    const refusing = await open(BACKUP, { ...asAdmin, 'accept-encoding': 'gzip;q=0' });
    expect(refusing.headers['content-encoding']).toBeUndefined();
    refusing.destroy();
  });

  test('answers HEAD without an export', async () => {
    const refuse = () => Promise.reject(new Error('an export was begun'));
    const node = createBareServer({ ...server.store, openBackup: refuse }, testConfig(server.database.url));
    const answer = await node.app.inject({ method: 'HEAD', url: BACKUP, headers: asAdmin });
    expect(answer.statusCode).toBe(200);
    expect(answer.headers['content-disposition']).toContain('attachment');
    await node.close();
  });

  test.each([BACKUP, '/v1/state', '/v1/audit/verify'])('has no content-length for HEAD %s', async (url) => {
    const answer = await server.app.inject({ method: 'HEAD', url, headers: asAdmin });
    expect(answer.statusCode).toBe(200);
    expect(answer.headers['content-type']).toContain('application/json');
    expect(answer.headers).not.toHaveProperty('content-length');
    expect(answer.body).toBe('');
  });

  test('has the content-length of GET for HEAD /v1/audit', async () => {
    const [head, get] = await Promise.all(
      (['HEAD', 'GET'] as const).map((method) => server.app.inject({ method, url: '/v1/audit', headers: asAdmin })),
    );
    expect(head?.headers['content-length']).toBe(get?.headers['content-length']);
  });

  test.each([
    'include_audit=yes',
    'include_audit=',
    'audit_limit=0',
    'audit_limit=-1',
    'audit_limit=1.5',
    'audit_limit=1&audit_limit=2',
    'include_audit=false&audit_limit=2',
  ])('refuses ?%s', async (query) => {
    const refused = await server.request('GET', `${BACKUP}?${query}`, { headers: asAdmin });
    expect(refused.json()).toMatchObject({ status: 400, code: 'invalid_parameter' });
  });

  const READERS = rounds({ quick: 5, full: 50 });
  test(`whose reader disconnects, ${READERS} times, leaves pool and node as they were`, async () => {
    for (let count = 0; count < READERS; count += 1) {
      const response = await open(BACKUP, count % 2 === 0 ? asAdmin : { ...asAdmin, 'accept-encoding': 'gzip' });
      await once(response, 'data');
      response.destroy();
    }
    await eventually(() => server.store.observe().operations.length === 0);
    await eventually(() => server.store.observe().pool.waiting === 0);
    expect((await server.request('GET', '/v1/documents/a')).status).toBe(200);
  });

  describe('that fails', () => {
    const failure = new LoomError('database_unavailable', 'The database could not be reached.');
    let node: BareServer | undefined;

    /** Starts a node over the real store, whose backup fails after these chunks. Resolves with its port. */
    async function failing(chunks: string[]): Promise<number> {
      const source = (): Readable =>
        Readable.from(
          (async function* () {
            yield* chunks;
            await wait(50);
            throw failure;
          })(),
        );
      const store: Store = {
        ...server.store,
        openBackup: async (...of) => {
          const { header, body, manifest } = await server.store.openBackup(...of);
          body.destroy();
          return { header, body: source(), manifest, recordTaken: async () => undefined };
        },
      };
      node = createBareServer(store, testConfig(server.database.url));
      return (await node.listen()).port;
    }

    test.each([{}, { 'accept-encoding': 'gzip' }])(
      'before its first byte is answered with a problem (%j)',
      async (headers) => {
        const refused = await open(BACKUP, { ...asAdmin, ...headers }, await failing([]));
        expect(refused.statusCode).toBe(503);
        expect(refused.headers['content-encoding']).toBeUndefined();
        expect(JSON.parse((await read(refused)).toString())).toMatchObject({ code: 'database_unavailable' });
        await node?.close();
      },
    );

    test.each([{}, { 'accept-encoding': 'gzip' }])(
      'midway closes the connection, so that it never looks complete (%j)',
      async (headers) => {
        const large = randomBytes(300_000).toString('base64');
        const response = await open(BACKUP, { ...asAdmin, ...headers }, await failing(['{', large]));
        expect(response.statusCode).toBe(200);
        await expect(read(response)).rejects.toThrow(/aborted/);
        expect(response.complete).toBe(false);
        await node?.close();
        expect(node?.logged.text()).toMatch(/"code":"database_unavailable","complete":false/);
      },
    );
  });
});

describe('closing', () => {
  test('lets an open request finish, and closes connections that are idle or never had a request', async () => {
    const node = createBareServer(server.store, testConfig(server.database.url));
    const { port: own } = await node.listen();
    const body = JSON.stringify({ finished: true });
    const busy = connect(own, '127.0.0.1');
    const chunks: Buffer[] = [];
    busy.on('data', (chunk: Buffer) => chunks.push(chunk));
    busy.write(
      head([
        'PUT /v1/documents/last HTTP/1.1',
        'host: x',
        `authorization: ${asClient.authorization}`,
        `content-type: ${json['content-type']}`,
        `content-length: ${body.length}`,
        'expect: 100-continue',
      ]),
    );
    // The server sends this as soon as it has the request.
    await eventually(() => Buffer.concat(chunks).includes('100 Continue'));
    const silent = connect(own, '127.0.0.1');
    const idle = connect(own, '127.0.0.1');
    idle.write(head(['GET /live HTTP/1.1', 'host: x']));
    await once(idle, 'data');
    const ended = [busy, idle, silent].map((socket) => once(socket.resume(), 'close'));
    const closed = node.close();
    await Promise.all(ended.slice(1));
    busy.write(body);
    await Promise.all([closed, ended[0]]);
    expect(Buffer.concat(chunks).toString()).toMatch(/HTTP\/1.1 201 [\s\S]*connection: close/i);
    expect((await server.request('GET', '/v1/documents/last')).json()).toEqual({ finished: true });
    await expect(open('/live', {}, own)).rejects.toThrow(/ECONNREFUSED/);
  });
});

test('an unexpected error reveals nothing in its answer, and is logged with the request id', async () => {
  const store: Store = { ...server.store, readDocument: () => Promise.reject(new Error('password is hunter2')) };
  const node = createBareServer(store, testConfig(server.database.url));
  const answer = await node.app.inject({ url: '/v1/documents/a', headers: { ...asClient, 'x-request-id': 'find-me' } });
  expect(answer.statusCode).toBe(500);
  expect(answer.body).not.toContain('hunter2');
  expect(JSON.parse(answer.body)).toMatchObject({ code: 'internal', request_id: 'find-me' });
  expect(node.logged.text()).toContain('find-me');
  await node.close();
});
