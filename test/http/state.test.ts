import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { limits } from '../../src/limits.ts';
import { asAdmin, createTestServer, mergePatch, type TestServer } from '../setup/node/http.ts';

let server: TestServer;
beforeEach(async () => {
  server = await createTestServer();
});
afterEach(() => server.close());

const readState = async () => (await server.request('GET', '/v1/state')).json();

test('an error names only the beginning of a very long name', async () => {
  const body = JSON.stringify({ [`😀${'n'.repeat(60_000)}`]: 1 });
  const answer = await server.request('PUT', '/v1/state', { body });
  expect([answer.status, answer.json().code]).toEqual([422, 'invalid_document_name']);
  expect(answer.json().pointer).toMatch(/^\/😀n{2000,2048}…$/u);
  expect(answer.text.length).toBeLessThan(limits.maxPointerCharacters + 1_000);
});

describe('the state', () => {
  test('of a fresh node is an empty object with an entity tag', async () => {
    const fresh = await server.request('GET', '/v1/state');
    expect(fresh.status).toBe(200);
    expect(fresh.json()).toEqual({});
    expect(fresh.headers['content-type']).toMatch(/^application\/json/);
    const head = await server.request('HEAD', '/v1/state');
    expect(head.headers.etag).toBe(fresh.headers.etag);
    expect(head.text).toBe('');
  });

  test('is patched as one object: null deletes, an object merges, any other value replaces', async () => {
    await server.request('PUT', '/v1/state', { body: '{"a":{"x":1,"y":2},"b":[1],"c":3,"d":4}' });
    const body = '{"a":{"y":null,"z":3},"b":null,"c":[4],"never-there":null,"e":{"n":null,"m":0},"__proto__":"p"}';
    const patched = await server.request('PATCH', '/v1/state', { body, headers: mergePatch });
    // It has created a document, `e`.
    expect([patched.status, patched.json().created]).toEqual([200, true]);
    const read = await server.request('GET', '/v1/state');
    expect(read.headers.etag).toBe(patched.headers.etag);
    expect(read.text).toContain('"__proto__":');
    const { a, b, c, d, e } = read.json();
    expect({ a, b, c, d, e }).toEqual({ a: { x: 1, z: 3 }, b: undefined, c: [4], d: 4, e: { m: 0 } });
    expect((await server.request('GET', '/v1/audit')).json().entries).toHaveLength(2);
  });

  test('is replaced in one commit, where null is an ordinary value', async () => {
    await server.request('PUT', '/v1/state', { body: '{"a":1,"b":2}' });
    expect((await server.request('PUT', '/v1/state', { body: ' {"b":null, "c":{"d":null}} ' })).status).toBe(200);
    expect(await readState()).toEqual({ b: null, c: { d: null } });
  });

  test('is patched by an empty object in a commit with an audit entry', async () => {
    const patched = await server.request('PATCH', '/v1/state', { body: '{}' });
    expect(patched.json()).toMatchObject({ revision: 1, created: false });
    expect((await server.request('GET', '/v1/audit')).json().entries[0]).toMatchObject({
      action: 'state.patch',
      changes: [],
    });
  });

  test.each([
    ['[]', 422, { code: 'state_not_object' }],
    ['null', 422, { code: 'state_not_object' }],
    ['{"a":1,"\\u0061":2}', 422, { code: 'duplicate_member' }],
    ['{"":1}', 422, { code: 'invalid_document_name', pointer: '/' }],
    ['{"a\\u0001/~":1}', 422, { code: 'invalid_document_name', pointer: '/a\u0001~1~0' }],
    ['{"..":1}', 422, { code: 'invalid_document_name' }],
    ['{"a":{"b":[1e999]}}', 422, { code: 'invalid_number', pointer: '/a/b/0' }],
    ['{"a":1', 400, { code: 'invalid_json' }],
  ])('refuses %s and stays unchanged', async (body, status, problem) => {
    await server.request('PUT', '/v1/state', { body: '{"kept":true}' });
    for (const method of ['PUT', 'PATCH'] as const) {
      const refused = await server.request(method, '/v1/state', { body });
      expect(refused.json()).toMatchObject({ status, ...problem });
      expect(refused.json()).not.toHaveProperty('state');
    }
    expect(await readState()).toEqual({ kept: true });
  });

  test('accepts as many documents in one commit as the limit allows', async () => {
    const bodyOf = (count: number): string =>
      `{${Array.from({ length: count }, (_, index) => `"${index}":${index}`).join()}}`;
    const refused = await server.request('PUT', '/v1/state', { body: bodyOf(limits.maxChangesPerCommit + 1) });
    expect(refused.json()).toMatchObject({ status: 422, code: 'too_many_changes' });
    expect((await server.request('PUT', '/v1/state', { body: bodyOf(limits.maxChangesPerCommit) })).status).toBe(200);
    expect(Object.keys(await readState())).toHaveLength(limits.maxChangesPerCommit);
  });

  test('refuses documents whose names and values have more bytes than one commit may have', async () => {
    const value = JSON.stringify('x'.repeat(2_850));
    const members = Array.from(
      { length: limits.maxChangesPerCommit },
      (_, n) => `"${'\u6587'.repeat(168)}${n}":${value}`,
    );
    const body = `{${members.join()}}`;
    // Each of these letters has three bytes, and is one character.
    expect(body.length).toBeLessThan(limits.maxStateBodyBytes);
    const refused = await server.request('PUT', '/v1/state', { body });
    expect(refused.json()).toMatchObject({ status: 413, code: 'body_too_large' });
  });

  test('evaluates preconditions on reads and writes', async () => {
    const etag = String((await server.request('PUT', '/v1/state', { body: '{"a":1}' })).headers.etag);
    expect((await server.request('GET', '/v1/state', { headers: { 'if-none-match': etag } })).status).toBe(304);
    expect((await server.request('GET', '/v1/state', { headers: { 'if-match': '"no"' } })).status).toBe(412);
    const body = '{"a":2}';
    expect((await server.request('PATCH', '/v1/state', { body, headers: { 'if-match': etag } })).status).toBe(200);
    const late = await server.request('PATCH', '/v1/state', { body, headers: { 'if-match': etag } });
    expect(late.status).toBe(412);
    expect(late.headers.etag).not.toBe(etag);
    const changed = await server.request('GET', '/v1/state', { headers: { 'if-none-match': etag } });
    expect(changed.json()).toEqual({ a: 2 });
  });
});

describe('the audit trail', () => {
  const seqs = (answer: { entries: { seq: number }[] }): number[] => answer.entries.map(({ seq }) => seq);
  const read = async (query: string) => (await server.request('GET', `/v1/audit?${query}`)).json();

  beforeEach(async () => {
    for (const name of ['a', 'b', 'a', 'c'])
      await server.request('PUT', `/v1/documents/${name}`, { body: '1', headers: { 'x-request-id': 'r-1' } });
    await server.request('DELETE', '/v1/documents/b', { headers: asAdmin });
  });

  test('names actor and action, and pages in both directions', async () => {
    const all = await read('');
    expect(seqs(all)).toEqual([1, 2, 3, 4, 5]);
    expect(all.entries[0]).toMatchObject({ action: 'document.put', actor: 'client', request_id: 'r-1', revision: 1 });
    expect(all.entries[0].hash).toMatch(/^[0-9a-f]{64}$/);
    expect(all.head).toEqual({ seq: 5, hash: all.entries[4].hash });
    expect(all.next).toBeNull();
    const first = await read('limit=2');
    expect(seqs(await read(`limit=2&after=${first.next}`))).toEqual([3, 4]);
    const last = await read('limit=2&order=desc');
    expect(seqs(last)).toEqual([5, 4]);
    expect(seqs(await read(`limit=2&order=desc&before=${last.next}`))).toEqual([3, 2]);
  });

  test('is filtered by document and by action', async () => {
    expect(seqs(await read('document=a'))).toEqual([1, 3]);
    expect(seqs(await read('document=b&action=document.delete'))).toEqual([5]);
  });

  test('is streamed as newline-delimited JSON when Accept asks for it', async () => {
    const answer = await server.request('GET', '/v1/audit?after=1', { headers: { accept: 'application/x-ndjson' } });
    expect(answer.headers['content-type']).toMatch(/^application\/x-ndjson/);
    const lines = answer.text.trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line).seq)).toEqual([2, 3, 4, 5]);
  });

  test('is verified in the database, and a broken chain is answered with status 200', async () => {
    const verify = () => server.request('GET', '/v1/audit/verify', { headers: asAdmin });
    expect((await verify()).json()).toMatchObject({ ok: true, entries: 5 });
    await server.database.pool.query(`alter table loom_audit disable trigger user`);
    await server.database.pool.query(`update loom_audit set entry = entry || '{"actor": "nobody"}' where seq = 2`);
    const broken = await verify();
    expect(broken.status).toBe(200);
    expect(broken.json()).toMatchObject({ ok: false, first_bad_seq: 2 });
  });

  test.each(['after=-1', 'before=x', 'order=up', 'action=Drop%20table', 'document=', 'limit=5000', 'seq=1'])(
    'refuses ?%s',
    async (query) => {
      expect(await read(query)).toMatchObject({ status: 400, code: 'invalid_parameter' });
    },
  );
});
