import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { limits } from '../../../src/limits.ts';
import {
  ADMIN_TOKEN,
  asAdmin,
  asClient,
  CLIENT_TOKEN,
  createTestServer,
  mergePatch,
  type TestServer,
} from '../../setup/node/http.ts';

const METRICS_TOKEN = 'metrics-token-of-the-tests';

let server: TestServer;
beforeAll(async () => {
  server = await createTestServer({ LOOM_METRICS_TOKEN: METRICS_TOKEN });
});
afterAll(() => server.close());

/** Node reads and writes each byte of a header as one character. */
const asHeader = (name: string): string => Buffer.from(name).toString('latin1');
const named = (name: string) => ({ 'x-loom-actor': asHeader(name) });

async function lastEntry() {
  return (await server.request('GET', '/v1/audit?order=desc&limit=1')).json().entries[0];
}

describe('the header x-loom-actor', () => {
  test.each([
    'ann',
    'Zoë Example',
    '山田太郎',
    'a"b\\c',
    'DOMAIN\\user <ann@example.org>',
    '🧵',
    'e\u0301 ❤\ufe0f',
    'x'.repeat(limits.maxActorCharacters),
    '🧵'.repeat(limits.maxActorCharacters),
  ])('is kept beside the kind of token: %j', async (name) => {
    const put = await server.request('PUT', '/v1/documents/d', { headers: named(name), body: '1' });
    expect(put.status).toBeLessThan(300);
    expect(await lastEntry()).toMatchObject({ actor: 'client', actor_name: name });
    const headers = { ...asAdmin, ...mergePatch, ...named(name) };
    await server.request('PATCH', '/v1/state', { headers, body: '{"d":{"a":1}}' });
    expect(await lastEntry()).toMatchObject({ actor: 'admin', actor_name: name, action: 'state.patch' });
    const { history } = (await server.request('GET', '/v1/documents/d/history?limit=2')).json();
    expect(history).toMatchObject([
      { actor: 'admin', actor_name: name },
      { actor: 'client', actor_name: name },
    ]);
    expect((await server.request('GET', '/v1/audit/verify', { headers: asAdmin })).json().ok).toBe(true);
    expect(server.logged.text()).toContain(`"actorName":${JSON.stringify(name)}`);
  });

  test('is optional: an entry without it has no such member', async () => {
    await server.request('PUT', '/v1/documents/d', { body: '1' });
    expect(Object.keys(await lastEntry())).not.toContain('actor_name');
  });

  test('does not count for idempotency', async () => {
    const put = (name: string) =>
      server.request('PUT', '/v1/documents/keyed', {
        headers: { ...named(name), 'idempotency-key': 'once' },
        body: '1',
      });
    const first = await put('ann');
    const again = await put('ben');
    expect(again.headers['idempotency-replayed']).toBe('true');
    expect(again.json()).toEqual(first.json());
    expect(await lastEntry()).toMatchObject({ actor_name: 'ann' });
  });

  test.each([
    ['nothing', ''],
    ['too much', 'x'.repeat(limits.maxActorCharacters + 1)],
    ['a control character', asHeader('a\u0085b')],
    ['a tab', 'a\tb'],
    ['a character that changes the direction of the text', asHeader('ann\u202egpj')],
    ['an invisible character', asHeader('an\u200bn')],
    ['a non-joiner', asHeader('می\u200cخواهم')],
    ['joined emoji', asHeader('👩\u200d👧')],
    ['a character of private use', asHeader('a\ue000')],
    ['a code point without a character', asHeader('a\uffff')],
    ['a line separator', asHeader('a\u2028b')],
    ['a space that is not the plain one', asHeader('a\u00a0b')],
    ['a byte order mark', asHeader('\ufeffann')],
    ['a lone byte', 'a\xe9b'],
    ['what a decoder made of a lone byte', asHeader('a\ufffdb')],
    ['a surrogate in UTF-8', '\xed\xa0\x80'],
    ['an overlong form', '\xc0\xaf'],
  ])('is refused with %s', async (_what, value) => {
    const before = await lastEntry();
    const headers = { 'x-loom-actor': value };
    const refused = await server.request('PUT', '/v1/documents/d', { headers, body: '2' });
    expect([refused.status, refused.json().code]).toEqual([400, 'invalid_parameter']);
    expect(refused.json().detail).toContain('x-loom-actor');
    expect(await lastEntry()).toEqual(before);
    // Without a valid token, the token is the fault. Where none is needed, nothing is.
    const send = (url: string, more: Record<string, string>) =>
      server.app.inject({ url, headers: { ...headers, ...more } });
    expect((await send('/v1/documents/d', {})).statusCode).toBe(401);
    expect((await send('/v1/documents/d', { authorization: 'Bearer of-nobody-at-all-here' })).statusCode).toBe(403);
    expect((await send('/live', {})).statusCode).toBe(200);
    expect((await send('/metrics', { authorization: `Bearer ${METRICS_TOKEN}` })).statusCode).toBe(200);
  });

  test('is in the entries of a restore, its imports and changes, and of an undo', async () => {
    const other = await createTestServer();
    try {
      await other.request('PUT', '/v1/documents/theirs', { body: '1' });
      const admin = { ...asAdmin, ...named('Zoë') };
      const backup = (await other.request('GET', '/v1/admin/persistence/backup', { headers: asAdmin })).text;
      const { head } = (await server.request('GET', '/v1/audit?limit=1')).json();
      const send = (verb: string, body: string) =>
        server.request('POST', `/v1/admin/persistence/${verb}`, { headers: admin, body });
      expect((await send('restore', `{"confirm":"restore","backup":${backup}}`)).status).toBe(200);
      expect((await send('undo', '{"confirm":"undo"}')).status).toBe(200);
      const { entries } = (await server.request('GET', `/v1/audit?after=${head.seq}`)).json();
      const actions: string[] = entries.map(({ action }: { action: string }) => action);
      expect(actions).toEqual(['audit.import', 'restore', 'restore.changes', 'undo', 'undo.changes']);
      for (const entry of entries) expect(entry).toMatchObject({ actor: 'admin', actor_name: 'Zoë' });
      const { history } = (await server.request('GET', '/v1/documents/theirs/history')).json();
      expect(history).toMatchObject([
        { action: 'undo.changes', op: 'delete', actor_name: 'Zoë' },
        { action: 'restore.changes', op: 'put', actor_name: 'Zoë' },
      ]);
      const listed = (await server.request('GET', '/v1/audit?document=theirs')).json().entries;
      expect(listed.map(({ action }: { action: string }) => action)).toEqual(actions.slice(1));
      expect((await server.request('GET', '/v1/audit/verify', { headers: asAdmin })).json().ok).toBe(true);
    } finally {
      await other.close();
    }
  });

  test('is refused if it is repeated, or contains the token', async () => {
    await server.app.listen({ host: '127.0.0.1', port: 0 });
    const { request } = await import('undici');
    const address = server.app.server.address();
    const url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}/v1/documents/d`;
    const twice = await request(url, {
      headers: ['x-loom-actor', 'ann', 'X-Loom-Actor', 'ben', 'authorization', asClient.authorization],
    });
    expect(twice.statusCode).toBe(400);
    expect(await twice.body.json()).toMatchObject({ code: 'invalid_parameter' });
    const leaked = await server.request('GET', '/v1/documents/d', {
      headers: { ...asAdmin, ...named(`Bearer ${ADMIN_TOKEN}`) },
    });
    expect([leaked.status, leaked.json().code]).toEqual([400, 'invalid_parameter']);
    expect(leaked.text).not.toContain(ADMIN_TOKEN);
  });

  test.each([METRICS_TOKEN, CLIENT_TOKEN])('is refused if it is another token of the node: %s', async (token) => {
    const headers = { ...asAdmin, ...named(token) };
    const leaked = await server.request('PUT', '/v1/documents/d', { headers, body: '1' });
    expect([leaked.status, leaked.json().code]).toEqual([400, 'invalid_parameter']);
    expect(leaked.text).not.toContain(token);
  });

  test('does not tell a client whether it has guessed the admin token', async () => {
    const headers = { ...asClient, ...named(ADMIN_TOKEN) };
    expect((await server.request('GET', '/v1/state', { headers })).status).toBe(200);
  });
});
