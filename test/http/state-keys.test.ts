import { afterAll, beforeAll, expect, test } from 'vitest';
import { createFakeStoredBackups } from '../setup/backups/fake-stored-backups.ts';
import { createTestServer, type TestServer } from '../setup/node/http.ts';
import { openTestStore, type TestStore } from '../setup/node/store.ts';
import { digestTables } from '../setup/server/digest.ts';
import { callsOfEveryRoute } from './every-route.ts';

/** Occurs in the other state only, so no answer may contain it. */
const SECRET = 'belongs-to-the-other-state';

let server: TestServer;
let other: TestStore;
let before: string;

beforeAll(async () => {
  server = await createTestServer({}, { storedBackups: createFakeStoredBackups() });
  other = await openTestStore(server.database.url, { stateKey: 'other' });
  for (let count = 0; count < 20; count += 1) await other.put('shared', { [SECRET]: count });
  await other.put(SECRET, SECRET);
  before = await digestTables(server.database.pool, 'other');
});
afterAll(async () => {
  await other.close();
  await server.close();
});

test('no route of one state shows or changes another state in the same database', async () => {
  const calls = await callsOfEveryRoute(server, SECRET);
  for (const { route, send } of calls) {
    const answer = await send();
    expect(answer.status, `${route}: ${answer.text}`).toBeLessThan(300);
    expect(answer.text, route).not.toContain(SECRET);
  }
  expect(await digestTables(server.database.pool, 'other')).toBe(before);
  const routes = server.routes().filter(({ method }) => method !== 'HEAD');
  const called = new Set(calls.map(({ route }) => route));
  expect([...called].sort()).toEqual(routes.map(({ method, url }) => `${method} ${url}`).sort());
});
