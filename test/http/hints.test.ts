import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { auditActions } from '../../src/domain/audit.ts';
import { limits } from '../../src/limits.ts';
import { asAdmin, createTestServer, json, type TestServer } from '../setup/node/http.ts';
import { openSocket } from '../setup/node/raw.ts';

const RESTORE = '/v1/admin/persistence/restore';

let server: TestServer;
beforeAll(async () => {
  server = await createTestServer();
});
afterAll(() => server.close({ timeoutMs: 1_000 }));

const get = (url: string) => server.request('GET', url, { headers: asAdmin });
const backup = async (): Promise<string> => (await get('/v1/admin/persistence/backup')).text;
const post = (url: string, body: string) => server.request('POST', url, { headers: { ...asAdmin, ...json }, body });
const restore = (text: string) => post(RESTORE, `{"confirm":"restore","backup":${text}}`);

describe('the audit trail of a document', () => {
  const seqs = async (query: string): Promise<number[]> => {
    const page = (await get(`/v1/audit?${query}`)).json();
    const streamed = await server.request('GET', `/v1/audit?${query}`, {
      headers: { ...asAdmin, accept: 'application/x-ndjson' },
    });
    const found = page.entries.map(({ seq }: { seq: number }) => seq);
    const lines = streamed.text.split('\n').filter((line) => line !== '');
    expect(lines.map((line) => JSON.parse(line).seq)).toEqual(found);
    return found;
  };

  test('includes the restores and undos that changed the document, and no others', async () => {
    const shared = server;
    server = await createTestServer();
    try {
      await server.request('PUT', '/v1/documents/kept', { body: '1' });
      await server.request('PUT', '/v1/documents/changed', { body: '1' });
      const text = await backup();
      await server.request('PUT', '/v1/documents/changed', { body: '2' });
      await server.request('PUT', '/v1/documents/added', { body: '3' });
      expect((await restore(text)).status).toBe(200);
      expect((await post('/v1/admin/persistence/undo', '{"confirm":"undo"}')).status).toBe(200);
      // This restore changes nothing.
      expect((await restore(await backup())).status).toBe(200);
      expect(await seqs('document=kept')).toEqual([1]);
      expect(await seqs('document=changed')).toEqual([2, 3, 5, 6, 7, 8]);
      expect(await seqs('document=added')).toEqual([4, 5, 6, 7, 8]);
      expect(await seqs('document=added&action=restore')).toEqual([5]);
      expect(await seqs('document=absent')).toEqual([]);
    } finally {
      await server.close({ timeoutMs: 1_000 });
      server = shared;
    }
  });

  test('includes a restore that changed more documents than its entry names', async () => {
    const shared = server;
    server = await createTestServer();
    try {
      const names = Array.from(
        { length: limits.maxPlanNames + 20 },
        (_, index) => `d${String(index).padStart(3, '0')}`,
      );
      const empty = await backup();
      const body = JSON.stringify(Object.fromEntries(names.map((name) => [name, 1])));
      await server.request('PUT', '/v1/state', { body, headers: asAdmin });
      expect((await restore(empty)).json().documents.removed).toBe(names.length);
      for (const name of [names[0], names.at(-1)]) expect(await seqs(`document=${name}`)).toEqual([1, 2, 3]);
      // The undo record says that this document was not among them.
      expect(await seqs('document=other')).toEqual([]);
      await server.database.pool.query('delete from loom_snapshot');
      expect(await seqs('document=other')).toEqual([2]);
    } finally {
      await server.close({ timeoutMs: 1_000 });
      server = shared;
    }
  });
});

describe('a mistaken request says what to send instead', () => {
  test('an unknown action', async () => {
    for (const action of ['document.putt', 'drop', 'x'.repeat(5_000), '', 'a%20b']) {
      for (const accept of ['application/json', 'application/x-ndjson']) {
        const answer = await server.request('GET', `/v1/audit?action=${action}`, { headers: { ...asAdmin, accept } });
        expect(answer.json()).toMatchObject({ status: 400, code: 'invalid_parameter' });
        expect(answer.json().detail).toContain(auditActions.join(', '));
      }
    }
    for (const action of auditActions) expect((await get(`/v1/audit?action=${action}`)).status).toBe(200);
  });

  test('an action that only a restored trail has is found', async () => {
    await server.request('PUT', '/v1/documents/a', { body: '1' });
    await server.database.pool.query(`alter table loom_audit disable trigger user`);
    await server.database.pool.query(`update loom_audit set action = 'other.write' where seq = 1`);
    expect((await get('/v1/audit?action=other.write')).json().entries).toHaveLength(1);
    await server.database.pool.query(`update loom_audit set action = 'document.put' where seq = 1`);
    expect((await get('/v1/audit?action=other.write')).status).toBe(400);
  });

  test.each([
    ['/v1/documents/app/settings', '/v1/documents/app%2Fsettings'],
    ['/v1/documents/app/settings?x=1', '/v1/documents/app%2Fsettings'],
    ['/v1/documents/a/b%20c/d', '/v1/documents/a%2Fb%20c%2Fd'],
    ['/v1/documents/a/', '/v1/documents/a%2F'],
    ['/v1/documents/a/b/history?limit=1', '/v1/documents/a%2Fb/history'],
  ])('a slash in the name of a document: %s', async (url, corrected) => {
    for (const method of ['GET', 'PUT', 'DELETE'] as const) {
      const { status, json: body } = await server.request(method, url, method === 'PUT' ? { body: '1' } : {});
      expect(status).toBe(404);
      expect(body().detail).toMatch(/write each slash of its name as %2F: /);
      expect(body().detail.endsWith(`: ${corrected}`)).toBe(true);
    }
  });

  test.each(['/v1/document/a/b', '/v1/state/a', `/v1/documents/${'a/'.repeat(2_000)}`])(
    'but not %.40s',
    async (url) => {
      expect((await get(url)).text.length).toBeLessThan(500);
    },
  );

  test.each(['%', '%z', 'a%2', '%ff', '%C3'])('a broken escape in a query: prefix=%s', async (value) => {
    const answer = await get(`/v1/documents?limit=1&prefix=${value}`);
    expect(answer.json()).toMatchObject({ status: 400, code: 'invalid_parameter' });
    expect(answer.json().detail).toMatch(/^The query parameter prefix has a broken percent-encoding: /);
  });

  test('too many parameters in a query, on any path', async () => {
    for (const url of ['/v1/documents', '/live', '/nowhere']) {
      const answer = await get(`${url}?${'a=1&'.repeat(limits.maxQueryParameters)}`);
      expect(answer.json()).toMatchObject({ status: 400, code: 'invalid_parameter' });
      expect(answer.json().detail).toContain(`more than ${limits.maxQueryParameters} parameters`);
    }
    expect((await get(`/live?${'a=1&'.repeat(limits.maxQueryParameters - 1)}a`)).status).toBe(200);
  });

  test('quoted booleans in a restore and an undo', async () => {
    const restored = await post(RESTORE, `{"confirm":"restore","dry_run":"true","backup":${await backup()}}`);
    const undone = await post('/v1/admin/persistence/undo', '{"confirm":"undo","dry_run":"true"}');
    for (const answer of [restored, undone]) {
      expect(answer.status).toBe(400);
      expect(answer.json().detail).toContain(
        '"dry_run" is missing or has the wrong type; expected true or false, without quotes',
      );
    }
  });
});

test('a restore that the client aborted is logged and counted as 499', async () => {
  const { port } = await server.listen();
  const socket = await openSocket(port);
  const head = `POST ${RESTORE} HTTP/1.1\r\nhost: x\r\nx-request-id: aborted.1\r\ncontent-type: application/json\r\n`;
  const started = once(server.app.server, 'request');
  socket.write(
    `${head}x-loom-admin-token: ${asAdmin['x-loom-admin-token']}\r\ncontent-length: 1000\r\n\r\n{"confirm":`,
  );
  const [request] = await started;
  const closed = new Promise((resolve) => request.socket.once('close', resolve));
  socket.resetAndDestroy();
  await closed;
  await get('/v1/state');
  const line = server.logged
    .text()
    .split('\n')
    .find((one) => one.includes('aborted.1') && one.includes('"status"'));
  expect(JSON.parse(line ?? '{}')).toMatchObject({ status: 499, complete: false, req: { remoteAddress: '127.0.0.1' } });
  expect((await get('/metrics')).text).toMatch(/status="499"/);
});
