import { once } from 'node:events';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Store } from '../../src/domain/store.ts';
import { createFakeStoredBackups } from '../setup/backups/fake-stored-backups.ts';
import {
  asAdmin,
  asClient,
  createBareServer,
  createTestServer,
  inject,
  type TestServer,
  testConfig,
} from '../setup/node/http.ts';
import { callsOfEveryRoute } from './every-route.ts';

let server: TestServer;
let port: number;
beforeAll(async () => {
  server = await createTestServer({}, { storedBackups: createFakeStoredBackups() });
  ({ port } = await server.listen());
});
afterAll(() => server.close({ timeoutMs: 1_000 }));

/** Expects JSON text with exactly one newline at its end. */
function expectJsonLine(body: string, what: string): void {
  expect(body, what).toMatch(/[^\n]\n$/);
  expect(() => JSON.parse(body), what).not.toThrow();
}

describe('a JSON answer ends with one newline', () => {
  test('from every route, and HEAD announces the length of GET', async () => {
    const withoutLength: string[] = [];
    for (const { route, url, send } of await callsOfEveryRoute(server)) {
      const answer = await send();
      expect(answer.status, `${route}: ${answer.text}`).toBeLessThan(300);
      if (!['GET /metrics', 'GET /v1/admin/backups/:name'].includes(route)) {
        expect(answer.headers['content-type'], route).toMatch(/^application\/json/);
        expectJsonLine(answer.text, route);
      }
      const length = answer.headers['content-length'];
      if (length === undefined) withoutLength.push(route);
      else expect(Number(length), route).toBe(Buffer.byteLength(answer.text));
      // Status and metrics tell the time, so two answers may differ in length.
      if (length === undefined || !route.startsWith('GET') || /status|metrics/.test(url)) continue;
      const head = await inject(server, { method: 'HEAD', url, headers: asAdmin });
      if (head.headers['content-length'] !== undefined) expect(head.headers['content-length'], route).toBe(length);
      expect(head.text, route).toBe('');
    }
    expect([...new Set(withoutLength)]).toEqual(['GET /v1/state', 'GET /v1/admin/persistence/backup']);
  });

  test.each<
    [status: number, method: 'GET' | 'PUT' | 'POST', url: string, headers: Record<string, string>, body?: string]
  >([
    [400, 'GET', '/v1/documents?limit=0', asAdmin],
    [400, 'GET', '/v1/documents/%zz', asAdmin],
    [400, 'PUT', '/v1/documents/a', { ...asAdmin, 'content-type': 'application/json' }, '{'],
    [401, 'GET', '/v1/documents', {}],
    [403, 'GET', '/metrics', asClient],
    [404, 'GET', '/nowhere', {}],
    [404, 'GET', '/v1/documents/absent', asAdmin],
    [405, 'POST', '/v1/documents/a', asAdmin],
    [412, 'GET', '/v1/state', { ...asAdmin, 'if-match': '"other"' }],
    [413, 'PUT', '/v1/documents/a', { ...asAdmin, 'content-type': 'application/json', 'content-length': '1000000000' }],
    [415, 'PUT', '/v1/documents/a', { ...asAdmin, 'content-type': 'text/plain' }, 'a'],
  ])('with status %i: %s %s', async (status, method, url, headers, body) => {
    const refused = await inject(server, { method, url, headers, ...(body === undefined ? {} : { body }) });
    expect(refused.status).toBe(status);
    expect(refused.headers['content-type']).toMatch(/^application\/problem\+json/);
    expectJsonLine(refused.text, url);
    expect(Number(refused.headers['content-length'])).toBe(Buffer.byteLength(refused.text));
  });

  test('with status 500, and with status 503 of the readiness', async () => {
    const store: Store = { ...server.store, readHead: () => Promise.reject(new Error('unexpected')) };
    const node = createBareServer(store, testConfig(server.database.url));
    node.setReadiness({ ok: false, reason: 'draining', checks: { http: 'draining', database: 'ok', schema: 'ok' } });
    const headers = { ...asClient, 'if-none-match': '"a"' };
    const failed = await inject(node, { method: 'GET', url: '/v1/state', headers });
    const notReady = await inject(node, { method: 'GET', url: '/ready' });
    expect([failed.status, notReady.status]).toEqual([500, 503]);
    expectJsonLine(failed.text, 'error 500');
    expectJsonLine(notReady.text, '/ready');
    await node.close();
  });

  test.each([
    ['bytes that are not HTTP', 'HELLO\r\n\r\n'],
    ['a path that cannot be decoded', 'GET /%zz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'],
    [
      'a refused upload that is still on its way',
      'PUT /v1/state HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9000000\r\n\r\n{',
    ],
  ])('on the socket, for %s', async (what, bytes) => {
    const socket = connect(port, '127.0.0.1');
    socket.write(bytes);
    if (what.includes('upload')) void once(socket, 'data').then(() => socket.end());
    const answer = await text(socket);
    const [head = '', body = ''] = answer.split('\r\n\r\n');
    expectJsonLine(body, what);
    expect(Number(/content-length: (\d+)/i.exec(head)?.[1]), what).toBe(Buffer.byteLength(body));
  });
});
