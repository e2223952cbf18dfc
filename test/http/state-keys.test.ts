import { afterAll, beforeAll, expect, test } from 'vitest';
import { asAdmin, createTestServer, mergePatch, type TestServer } from '../setup/node/http.ts';
import { openTestStore, type TestStore } from '../setup/node/store.ts';
import { digestTables } from '../setup/server/digest.ts';

/** Only the other state has it: no answer may show it. */
const SECRET = 'belongs-to-the-other-state';

let server: TestServer;
let theirs: TestStore;
let before: string;

beforeAll(async () => {
  server = await createTestServer();
  theirs = await openTestStore(server.database.url, { stateKey: 'other' });
  for (let count = 0; count < 20; count += 1) await theirs.put('shared', { [SECRET]: count });
  await theirs.put(SECRET, SECRET);
  before = await digestTables(server.database.pool, 'other');
});
afterAll(async () => {
  await theirs.close();
  await server.close();
});

type Step = [method: 'GET' | 'PUT' | 'PATCH' | 'DELETE' | 'POST', url: string, body?: string];

const steps: Step[] = [
  ['PUT', '/v1/documents/shared', '{"mine":1}'],
  ['PATCH', '/v1/documents/shared', '{"mine":2}'],
  ['PATCH', '/v1/state', `{"${SECRET}":null,"own":1}`],
  ['GET', '/v1/state'],
  ['GET', '/v1/documents'],
  ['GET', '/v1/documents/shared'],
  ['GET', '/v1/audit?limit=1000'],
  ['GET', '/v1/audit/verify'],
  ['GET', '/v1/admin/status'],
  ['GET', '/v1/admin/persistence/schema'],
  ['GET', '/v1/admin/persistence/backup'],
  ['GET', '/metrics'],
  ['GET', '/ready'],
  ['GET', '/live'],
  ['PUT', '/v1/state', '{"shared":1}'],
  ['DELETE', '/v1/documents/shared'],
];

test('no route of one state shows or touches another in the same database', async () => {
  const backup = (await server.request('GET', '/v1/admin/persistence/backup', { headers: asAdmin })).text;
  const restore = `{"confirm":"restore","truncate_audit":false,"backup":${backup}}`;
  const all: Step[] = [
    ...steps,
    ['POST', '/v1/admin/persistence/restore', restore],
    ['POST', '/v1/admin/persistence/undo', '{"confirm":"undo"}'],
    ['POST', '/v1/admin/persistence/restore', restore.replace('{', '{"into_scratch":"trial",')],
    ['GET', '/v1/audit/verify?scratch=trial'],
    ['DELETE', '/v1/admin/persistence/scratch/trial'],
  ];
  const tried = new Set<string>();
  for (const [method, url, body] of all) {
    const headers = { ...asAdmin, ...(method === 'PATCH' ? mergePatch : {}) };
    const answer = await server.request(method, url, { headers, ...(body === undefined ? {} : { body }) });
    expect(answer.status, `${method} ${url}: ${answer.text}`).toBeLessThan(300);
    expect(answer.text, `${method} ${url}`).not.toContain(SECRET);
    tried.add(
      `${method} ${url.replace(/\?.*/, '').replace('documents/shared', 'documents/:name').replace('trial', ':state_key')}`,
    );
  }
  expect(await digestTables(server.database.pool, 'other')).toBe(before);
  // A route that is added must be added here as well.
  const routes = server.routes().filter(({ method }) => method !== 'HEAD');
  expect([...tried].sort()).toEqual(routes.map(({ method, url }) => `${method} ${url}`).sort());
});
