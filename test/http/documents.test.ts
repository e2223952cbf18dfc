import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { asAdmin, createTestServer, mergePatch, type TestServer } from '../setup/node/http.ts';
import { mergePatchExamples } from '../setup/values/merge-patch.ts';

let server: TestServer;
beforeAll(async () => {
  server = await createTestServer({ LOOM_MAX_DOCUMENT_BYTES: '2048' });
});
afterAll(() => server.close());

const documentUrl = (name: string): string => `/v1/documents/${encodeURIComponent(name)}`;

describe('a document', () => {
  test('is created with 201, a location and an entity tag, and replaced with 200', async () => {
    const created = await server.request('PUT', documentUrl('made'), { body: '{"a":1}' });
    expect(created.status).toBe(201);
    const { revision, epoch, event_id } = created.json();
    expect(created.json().created).toBe(true);
    expect(event_id).toMatch(/^[0-9a-f-]{36}$/);
    expect(created.headers.etag).toBe(`"${epoch}.${revision}"`);
    expect(created.headers.location).toBe('/v1/documents/made');

    const replaced = await server.request('PUT', documentUrl('made'), { body: '[true]' });
    expect(replaced.status).toBe(200);
    expect(replaced.json()).toMatchObject({ revision: revision + 1, created: false });
    const read = await server.request('GET', documentUrl('made'));
    expect(read.status).toBe(200);
    expect(read.json()).toEqual([true]);
    expect(read.headers.etag).toBe(replaced.headers.etag);
    expect(read.headers['content-type']).toMatch(/^application\/json/);
    expect(read.headers['cache-control']).toBe('no-store');
  });

  test('is not found after it was deleted', async () => {
    await server.request('PUT', documentUrl('short-lived'), { body: '1' });
    expect((await server.request('DELETE', documentUrl('short-lived'))).status).toBe(200);
    for (const method of ['DELETE', 'GET'] as const) {
      const gone = await server.request(method, documentUrl('short-lived'));
      expect(gone.status).toBe(404);
      expect(gone.json()).toMatchObject({ code: 'document_not_found', document: 'short-lived' });
    }
  });

  test.each([
    'a/b',
    '100%',
    '%2F',
    'é ü',
    '😀',
    '__proto__',
    'constructor',
    ' ',
    'a?b#c',
    '+',
    ':name',
    'x'.repeat(512),
    '"\\',
    '*',
  ])('can be named %j', async (name) => {
    const body = JSON.stringify({ name });
    expect((await server.request('PUT', documentUrl(name), { body })).status).toBe(201);
    expect((await server.request('GET', documentUrl(name))).json()).toEqual({ name });
  });

  test.each(['', '%00', '%0A', 'x'.repeat(513), '%C2%85'])('cannot be named %j', async (encoded) => {
    const refused = await server.request('PUT', `/v1/documents/${encoded}`, { body: '1' });
    expect(refused.status).toBe(422);
    expect(refused.json().code).toBe('invalid_document_name');
  });

  test.each(['%', '%2', '%zz', '%ff', '%C3%28'])('cannot be named by the broken encoding %j', async (encoded) => {
    const refused = await server.request('GET', `/v1/documents/${encoded}`);
    expect(refused.status).toBe(400);
    expect(refused.json()).toMatchObject({ code: 'malformed_request', request_id: refused.headers['x-request-id'] });
  });

  test('keeps members with names that are special in JavaScript', async () => {
    const body = '{"__proto__":{"x":1},"constructor":{"prototype":1},"":"empty","b":1,"a":1e21}';
    expect((await server.request('PUT', documentUrl('odd'), { body })).status).toBe(201);
    const read = await server.request('GET', documentUrl('odd'));
    expect(read.text).toContain('"__proto__": {"x": 1}');
    expect(Object.keys(read.json())).toHaveLength(5);
  });

  test('answers HEAD like GET, without the body', async () => {
    await server.request('PUT', documentUrl('headed'), { body: '"x"' });
    const head = await server.request('HEAD', documentUrl('headed'));
    const get = await server.request('GET', documentUrl('headed'));
    expect(head.status).toBe(200);
    expect(head.text).toBe('');
    expect(head.headers.etag).toBe(get.headers.etag);
    expect(Number(head.headers['content-length'])).toBe(Buffer.byteLength(get.text));
  });
});

describe('a body is refused', () => {
  test.each([
    ['a syntax error', '{"a":1,}', 400, { code: 'invalid_json', offset: 7 }],
    ['an empty body', '', 400, { code: 'invalid_json' }],
    [
      'a number that a double cannot carry',
      '{"a":[12345678901234567890]}',
      422,
      { code: 'invalid_number', pointer: '/a/0' },
    ],
    ['a NUL', '{"a":"\\u0000"}', 422, { code: 'invalid_string', pointer: '/a' }],
    ['a duplicate member', '{"a":1,"\\u0061":2}', 422, { code: 'duplicate_member' }],
    ['nesting that is too deep', `${'['.repeat(129)}${']'.repeat(129)}`, 422, { code: 'nested_too_deeply' }],
    ['a document above the limit', JSON.stringify('x'.repeat(2048)), 413, { code: 'document_too_large' }],
    ['more bytes than any document needs', ' '.repeat(100_000), 413, { code: 'body_too_large' }],
  ])('for %s', async (_what, body, status, problem) => {
    const refused = await server.request('PUT', documentUrl('refused'), { body });
    expect(refused.headers['content-type']).toMatch(/^application\/problem\+json/);
    expect(refused.json()).toMatchObject({ status, ...problem });
    expect(refused.status).toBe(status);
    expect((await server.request('GET', documentUrl('refused'))).status).toBe(404);
  });

  test('for invalid UTF-8', async () => {
    const body = Buffer.from([0x22, 0xff, 0x22]);
    expect((await server.request('PUT', documentUrl('refused'), { body })).json().code).toBe('invalid_utf8');
  });

  test.each([
    'application/x-www-form-urlencoded',
    'text/plain',
    'application/merge-patch+json',
    'nonsense',
    'application/json; charset=latin1',
  ])('for the content type %s', async (type) => {
    const refused = await server.request('PUT', documentUrl('refused'), {
      body: '1',
      headers: { 'content-type': type },
    });
    expect(refused.status).toBe(415);
    expect(refused.json().code).toBe('unsupported_media_type');
  });

  test("for curl's default content type, and the error shows the option to add", async () => {
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    const refused = await server.request('PUT', documentUrl('refused'), { body: '1', headers });
    expect(refused.json().detail).toContain("-H 'content-type: application/json'");
  });

  test('for an unknown content encoding', async () => {
    const refused = await server.request('PUT', documentUrl('refused'), {
      body: '1',
      headers: { 'content-encoding': 'br' },
    });
    expect(refused.json()).toMatchObject({ status: 415, code: 'unsupported_media_type' });
  });

  test.each([
    ['truncated', gzipSync('{"a":"some text that is long enough"}').subarray(0, 20)],
    ['not gzip', Buffer.from('{"a":1}')],
  ])('for gzip data that is %s', async (_what, body) => {
    const refused = await server.request('PUT', documentUrl('refused'), {
      body,
      headers: { 'content-encoding': 'gzip' },
    });
    expect(refused.status).toBe(400);
    expect(refused.json()).toMatchObject({ code: 'malformed_request', offset: expect.any(Number) });
  });

  test('for gzip data that unpacks to more than any document needs', async () => {
    const body = gzipSync(' '.repeat(10_000_000));
    const refused = await server.request('PUT', documentUrl('refused'), {
      body,
      headers: { 'content-encoding': 'gzip' },
    });
    expect(refused.json()).toMatchObject({ status: 413, code: 'body_too_large' });
  });
});

test('a gzipped body is unpacked', async () => {
  const headers = { 'content-encoding': 'gzip', 'content-type': 'application/json; charset=utf-8' };
  expect((await server.request('PUT', documentUrl('packed'), { body: gzipSync('{"z":1}'), headers })).status).toBe(201);
  expect((await server.request('GET', documentUrl('packed'))).json()).toEqual({ z: 1 });
});

describe('a merge patch', () => {
  test.each(mergePatchExamples)('changes %s by %s into %s', async (original, patch, result) => {
    await server.request('PUT', documentUrl('merged'), { body: original });
    const patched = await server.request('PATCH', documentUrl('merged'), { body: patch, headers: mergePatch });
    expect(patched.status).toBe(200);
    expect((await server.request('GET', documentUrl('merged'))).json()).toEqual(JSON.parse(result));
  });

  test('creates a missing document', async () => {
    const made = await server.request('PATCH', documentUrl('merged-new'), { body: '{"a":1,"b":null}' });
    expect(made.status).toBe(201);
    expect((await server.request('GET', documentUrl('merged-new'))).json()).toEqual({ a: 1 });
  });

  test('that would make the document too large changes nothing', async () => {
    await server.request('PUT', documentUrl('full'), { body: JSON.stringify({ a: 'x'.repeat(1500) }) });
    const refused = await server.request('PATCH', documentUrl('full'), {
      body: JSON.stringify({ b: 'x'.repeat(1500) }),
    });
    expect(refused.json()).toMatchObject({ status: 413, code: 'document_too_large' });
    expect(Object.keys((await server.request('GET', documentUrl('full'))).json())).toEqual(['a']);
  });
});

describe('preconditions', () => {
  test('refuse a write without the current entity tag, and the answer has the current one', async () => {
    const url = documentUrl('guarded');
    const first = await server.request('PUT', url, { body: '1', headers: { 'if-none-match': '*' } });
    expect(first.status).toBe(201);
    const again = await server.request('PUT', url, { body: '2', headers: { 'if-none-match': '*' } });
    expect(again.json()).toMatchObject({ status: 412, code: 'precondition_failed' });
    expect(again.headers.etag).toBe(first.headers.etag);

    const etag = String(first.headers.etag);
    expect((await server.request('PUT', url, { body: '3', headers: { 'if-match': `W/${etag}` } })).status).toBe(412);
    expect((await server.request('PUT', url, { body: '3', headers: { 'if-match': `"x", ${etag}` } })).status).toBe(200);
    expect((await server.request('DELETE', url, { headers: { 'if-match': etag } })).status).toBe(412);
    expect((await server.request('GET', url)).text).toBe('3\n');
  });

  test('with If-Match: * refuse to create a document', async () => {
    const refused = await server.request('PUT', documentUrl('absent'), { body: '1', headers: { 'if-match': '*' } });
    expect(refused.status).toBe(412);
    expect(refused.headers.etag).toBeUndefined();
  });

  test('on a read answer 304 for the current entity tag, and 412 for another expected one', async () => {
    const url = documentUrl('cached');
    const etag = String((await server.request('PUT', url, { body: '1' })).headers.etag);
    for (const value of [etag, `W/${etag}`, '*', `"other" , ${etag}`]) {
      const cached = await server.request('GET', url, { headers: { 'if-none-match': value } });
      expect(cached.status).toBe(304);
      expect(cached.headers.etag).toBe(etag);
      expect(cached.text).toBe('');
    }
    expect((await server.request('GET', url, { headers: { 'if-none-match': '"other"' } })).status).toBe(200);
    expect((await server.request('GET', url, { headers: { 'if-match': '"other"' } })).status).toBe(412);
    expect((await server.request('HEAD', url, { headers: { 'if-none-match': etag } })).status).toBe(304);
  });

  test('that are malformed are refused', async () => {
    const refused = await server.request('PUT', documentUrl('x'), { body: '1', headers: { 'if-match': 'abc' } });
    expect(refused.json()).toMatchObject({ status: 400, code: 'invalid_parameter' });
  });

  test('let exactly one of 40 concurrent creators succeed, and one of 40 writers with one entity tag', async () => {
    const url = documentUrl('contended');
    const create = () => server.request('PUT', url, { body: '0', headers: { 'if-none-match': '*' } });
    const created = await Promise.all(Array.from({ length: 40 }, create));
    expect(created.filter(({ status }) => status === 201)).toHaveLength(1);
    expect(created.filter(({ status }) => status === 412)).toHaveLength(39);
    const etag = String((await server.request('GET', url)).headers.etag);
    const written = await Promise.all(
      Array.from({ length: 40 }, (_, index) =>
        server.request('PUT', url, { body: `${index}`, headers: { 'if-match': etag } }),
      ),
    );
    expect(written.filter(({ status }) => status === 200)).toHaveLength(1);
    expect(written.filter(({ status }) => status === 412)).toHaveLength(39);
  });
});

describe('an idempotency key', () => {
  test('makes one commit of 30 equal concurrent requests, and all get its answer', async () => {
    const headers = { 'idempotency-key': 'thirty-at-once' };
    const send = () => server.request('PUT', documentUrl('once'), { body: '{"n":1}', headers });
    const answers = await Promise.all(Array.from({ length: 30 }, send));
    expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]));
    expect(answers.filter(({ headers }) => headers['idempotency-replayed'] === 'true')).toHaveLength(29);
  });

  test('cannot be used for another change', async () => {
    const headers = { 'idempotency-key': 'used' };
    await server.request('PUT', documentUrl('used'), { body: '1', headers });
    const refused = await server.request('PUT', documentUrl('used'), { body: '2', headers });
    expect(refused.json()).toMatchObject({ status: 422, code: 'idempotency_key_reused' });
  });

  test('from before a restore gets 409 without an entity tag, and the document stays as restored', async () => {
    const own = await createTestServer();
    try {
      const backup = (await own.request('GET', '/v1/admin/persistence/backup', { headers: asAdmin })).text;
      const send = () => own.request('PUT', documentUrl('lost'), { body: '1', headers: { 'idempotency-key': 'key' } });
      expect((await send()).status).toBe(201);
      const body = `{"confirm":"restore","backup":${backup}}`;
      expect((await own.request('POST', '/v1/admin/persistence/restore', { headers: asAdmin, body })).status).toBe(200);
      const refused = await send();
      expect(refused.json()).toMatchObject({ status: 409, code: 'idempotency_key_outdated' });
      expect(refused.headers).not.toHaveProperty('etag');
      expect((await own.request('GET', documentUrl('lost'))).status).toBe(404);
    } finally {
      await own.close();
    }
  });

  test.each(['has space', 'é', 'x'.repeat(256)])(
    'must be visible ASCII of at most 255 characters: not %j',
    async (key) => {
      const refused = await server.request('PUT', documentUrl('k'), { body: '1', headers: { 'idempotency-key': key } });
      expect(refused.json()).toMatchObject({ status: 400, code: 'invalid_parameter' });
      expect(refused.json().detail).toContain('visible ASCII');
    },
  );

  test('is refused if it is repeated, and the answer says so', async () => {
    const { port } = await server.listen();
    const { request } = await import('undici');
    const headers = ['idempotency-key', 'one', 'Idempotency-Key', 'two', ...Object.entries(asAdmin).flat()];
    const url = `http://127.0.0.1:${port}${documentUrl('k')}`;
    const twice = await request(url, {
      method: 'PUT',
      headers: [...headers, 'content-type', 'application/json'],
      body: '1',
    });
    const detail = 'The header Idempotency-Key appears more than once. Send it once.';
    expect(await twice.body.json()).toMatchObject({ status: 400, code: 'invalid_parameter', detail });
  });
});

describe('the listing', () => {
  test('pages through names in byte order, by prefix', async () => {
    for (const name of ['list/b', 'list/a', 'list/é', 'list/Z'])
      await server.request('PUT', documentUrl(name), { body: '1' });
    const first = (await server.request('GET', '/v1/documents?prefix=list%2F&limit=3')).json();
    expect(first.documents.map(({ name }: { name: string }) => name)).toEqual(['list/Z', 'list/a', 'list/b']);
    expect(first.next).toBe('list/b');
    const rest = await server.request('GET', '/v1/documents?prefix=list%2F&limit=3&after=list%2Fb');
    expect(rest.json()).toMatchObject({ documents: [{ name: 'list/é', bytes: 1 }], next: null });
    expect(rest.headers.etag).toBe(`"${rest.json().epoch}.${rest.json().revision}"`);
    const headers = { 'if-none-match': String(rest.headers.etag) };
    expect((await server.request('GET', '/v1/documents', { headers })).status).toBe(304);
  });

  test.each(['limit=0', 'limit=1001', 'limit=abc', 'limit=1&limit=2', 'prefix=%00', 'after=..', 'order=asc', 'limit='])(
    'refuses ?%s',
    async (query) => {
      const refused = await server.request('GET', `/v1/documents?${query}`);
      expect(refused.json()).toMatchObject({ status: 400, code: 'invalid_parameter' });
    },
  );
});
