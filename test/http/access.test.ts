import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { limits } from '../../src/limits.ts';
import {
  ADMIN_TOKEN,
  asAdmin,
  asClient,
  CLIENT_TOKEN,
  createTestServer,
  inject,
  type TestServer,
} from '../setup/node/http.ts';

let server: TestServer;
beforeAll(async () => {
  server = await createTestServer();
});
afterAll(() => server.close());

/** Each test has its own address, because the node counts wrong tokens by address. */
let address = 0;
let remoteAddress: string;
beforeEach(() => {
  address += 1;
  remoteAddress = `10.0.0.${address}`;
});

const send = (method: string, url: string, headers: Record<string, string> = {}) =>
  inject(server, { method: method as 'GET', url, headers, remoteAddress });

const urlOf = (pattern: string): string => pattern.replace(/:\w+/g, 'x');

const publicRoutes = ['GET /live', 'HEAD /live', 'GET /ready', 'HEAD /ready'];

describe('every route', () => {
  const routesOf = (access: string) => server.routes().filter((route) => route.access === access);

  test('is public only if it is on a short list', () => {
    expect(
      routesOf('none')
        .map(({ method, url }) => `${method} ${url}`)
        .sort(),
    ).toEqual([...publicRoutes].sort());
    expect(routesOf('client').length).toBeGreaterThan(10);
    expect(routesOf('admin').length).toBeGreaterThan(6);
  });

  test('answers 401 without a token, and names the scheme to use', async () => {
    for (const { method, url, access } of server.routes()) {
      if (access === 'none') continue;
      const refused = await send(method, urlOf(url));
      expect([method, url, refused.status]).toEqual([method, url, 401]);
      expect(refused.headers['www-authenticate']).toBe('Bearer realm="loom"');
    }
  });

  test('answers 403 to a wrong token', async () => {
    for (const [index, { method, url, access }] of server.routes().entries()) {
      if (access === 'none') continue;
      remoteAddress = `10.1.0.${index}`;
      const refused = await send(method, urlOf(url), { 'x-loom-admin-token': 'wrong-token-of-good-length' });
      expect([method, url, refused.status]).toEqual([method, url, 403]);
    }
  });

  test('answers 403 to the client token if it needs an admin token', async () => {
    for (const { method, url } of routesOf('admin')) {
      const refused = await send(method, urlOf(url), asClient);
      expect([method, url, refused.status]).toEqual([method, url, 403]);
    }
  });

  test('answers 403 to the client token on the route of metrics, and names the tokens that open it', async () => {
    const refused = await send('GET', '/metrics', asClient);
    expect([refused.status, refused.json().detail]).toEqual([403, 'This route needs a metrics or admin token.']);
  });

  test('opens to the admin token', async () => {
    for (const { method, url } of server.routes()) {
      const answer = await send(method, urlOf(url), asAdmin);
      expect([method, url, [401, 403, 429].includes(answer.status)]).toEqual([method, url, false]);
    }
  });

  test('refuses a token in the query, recognized by its name or value, before any other check', async () => {
    const queries = [
      'token=x',
      'admin_token=x',
      'access_token=',
      'x-api-key=1',
      'X-Loom-Admin-Token=x',
      'Authorization=x',
      'api_key=x',
    ];
    queries.push(`anything=${ADMIN_TOKEN}`, `${CLIENT_TOKEN}`, `prefix=Bearer%20${ADMIN_TOKEN}`, 'limit=1&key=x');
    for (const { method, url } of [...server.routes(), { method: 'GET', url: '/nowhere' }]) {
      for (const query of queries) {
        const refused = await send(method, `${urlOf(url)}?${query}`, asAdmin);
        expect([method, url, query, refused.status]).toEqual([method, url, query, 400]);
        if (method !== 'HEAD') expect(refused.json().code).toBe('token_in_query');
        expect(refused.text).not.toContain(ADMIN_TOKEN);
      }
    }
    expect(server.logged.text()).not.toContain(ADMIN_TOKEN);
    expect(server.logged.text()).not.toContain('access_token');
  });

  test('sends the request id and cache-control: no-store', async () => {
    for (const { method, url } of server.routes()) {
      const answer = await send(method, urlOf(url), { 'x-request-id': 'mine.1' });
      expect(answer.headers).toMatchObject({ 'x-request-id': 'mine.1', 'cache-control': 'no-store' });
    }
  });
});

describe('a token', () => {
  test.each([
    ['x-loom-admin-token', ADMIN_TOKEN],
    ['X-Loom-Admin-Token', CLIENT_TOKEN],
    ['authorization', `bearer ${CLIENT_TOKEN}`],
    ['authorization', `BEARER   ${ADMIN_TOKEN}`],
  ])('is taken from %s: %s', async (name, value) => {
    expect((await send('GET', '/v1/documents', { [name]: value })).status).toBe(200);
  });

  test('may be sent in two headers if both have the same value', async () => {
    const same = { 'x-loom-admin-token': ADMIN_TOKEN, authorization: `Bearer ${ADMIN_TOKEN}` };
    expect((await send('GET', '/v1/documents', same)).status).toBe(200);
    const refused = await send('GET', '/v1/documents', { ...same, 'x-loom-admin-token': CLIENT_TOKEN });
    expect(refused.json()).toMatchObject({ status: 400, code: 'invalid_parameter' });
  });

  test.each([
    { authorization: 'Basic YTpi' },
    { 'x-loom-admin-token': '' },
    { authorization: 'Bearer ' },
    { authorization: ADMIN_TOKEN },
  ])('is missing from %j', async (headers) => {
    expect((await send('GET', '/v1/documents', headers)).status).toBe(401);
  });

  test('is found beside the Basic credentials of a proxy', async () => {
    expect((await send('GET', '/v1/documents', { ...asAdmin, authorization: 'Basic YTpi' })).status).toBe(200);
  });

  test('gets 429 after too many wrong ones from its address, while a right one is still accepted', async () => {
    const wrong = { 'x-loom-admin-token': 'wrong-token-of-good-length' };
    for (let count = 0; count < limits.maxWrongTokens; count += 1) {
      expect((await send('GET', '/v1/documents', wrong)).status).toBe(403);
    }
    const refused = await send('GET', '/v1/documents', wrong);
    expect(refused.json()).toMatchObject({ status: 429, code: 'too_many_attempts' });
    const retryAfter = Number(refused.headers['retry-after']);
    expect(retryAfter).toBeGreaterThan(0);
    expect(retryAfter).toBeLessThanOrEqual(limits.wrongTokensWindowSeconds);
    expect((await send('GET', '/v1/documents', asAdmin)).status).toBe(200);
    expect((await send('GET', '/v1/documents')).status).toBe(401);
    remoteAddress = '10.2.0.1';
    expect((await send('GET', '/v1/documents', wrong)).status).toBe(403);
  });
});

describe('a path', () => {
  test('without a route is answered 404, with or without a token', async () => {
    for (const url of ['/', '/v1', '/v1/documents/a/b', '/V1/documents', '/live/']) {
      const lost = await send('GET', url);
      expect(lost.json()).toMatchObject({ status: 404, code: 'not_found' });
    }
  });

  test('answers 405 to an unsupported method, and lists the supported ones', async () => {
    const refused = await send('POST', '/v1/documents/a%2Fb', asAdmin);
    expect(refused.json()).toMatchObject({ status: 405, code: 'method_not_allowed' });
    expect(refused.headers.allow).toBe('DELETE, GET, HEAD, PATCH, PUT');
    expect((await send('GET', '/v1/admin/persistence/restore')).headers.allow).toBe('POST');
    expect((await send('OPTIONS', '/v1/state')).status).toBe(405);
  });

  test('refuses unknown query parameters, and repeats only harmless names', async () => {
    const known = await send('GET', '/v1/documents?Limit=1', asClient);
    expect(known.json()).toMatchObject({ status: 400, code: 'invalid_parameter' });
    expect(known.json().detail).toBe('A query parameter is not supported. This route supports prefix, after, limit.');
    const harmless = await send('GET', '/v1/state?limt=secret', asClient);
    expect(harmless.json().detail).toBe('The query parameter "limt" is not supported. This route has none.');
    expect((await send('GET', '/live?cache=1')).status).toBe(200);
  });
});

describe('a request id', () => {
  test.each(['a', 'x'.repeat(128), '0f-_.:/+=', '{id}'])('%j is accepted', async (id) => {
    const answer = await send('GET', '/nowhere', { 'x-request-id': id });
    expect(answer.headers['x-request-id']).toBe(id);
    expect(answer.json().request_id).toBe(id);
  });

  test.each(['', 'a b', 'a"b', "a'b", 'é', 'x'.repeat(129), '\\'])('%j is replaced by a new one', async (id) => {
    const answer = await send('GET', '/live', { 'x-request-id': id });
    expect(answer.headers['x-request-id']).toMatch(/^[0-9a-f]{8}-[0-9a-f-]{27}$/);
  });
});

test('metrics are public only with LOOM_METRICS_PUBLIC', async () => {
  const open = await createTestServer({ LOOM_METRICS_PUBLIC: 'true' });
  try {
    expect((await inject(open, { method: 'GET', url: '/metrics' })).status).toBe(200);
    expect((await inject(server, { method: 'GET', url: '/metrics' })).status).toBe(401);
  } finally {
    await open.close();
  }
});

test('the metrics token opens metrics and no other route, and the admin token opens metrics too', async () => {
  const token = 'metrics-token-of-the-tests';
  const node = await createTestServer({ LOOM_METRICS_TOKEN: token });
  try {
    const asScraper = { authorization: `Bearer ${token}` };
    for (const { method, url, access } of node.routes()) {
      const path = url.replace(':name', 'a').replace(':state_key', 'a');
      const { status } = await inject(node, { method: method as 'GET', url: path, headers: asScraper });
      if (access === 'client' || access === 'admin') expect([method, url, status]).toEqual([method, url, 403]);
    }
    expect((await inject(node, { method: 'GET', url: '/metrics', headers: asScraper })).status).toBe(200);
    expect((await inject(node, { method: 'GET', url: '/metrics', headers: asAdmin })).status).toBe(200);
    expect((await inject(node, { method: 'GET', url: '/metrics', headers: asClient })).status).toBe(403);
    const inQuery = await inject(node, { method: 'GET', url: `/metrics?x=${token}`, headers: asScraper });
    expect(inQuery.json()).toMatchObject({ status: 400, code: 'token_in_query' });
    expect(node.logged.text()).not.toContain(token);
  } finally {
    await node.close();
  }
});
