import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestServer, type TestServer } from '../setup/node/http.ts';

let server: TestServer;
beforeAll(async () => {
  server = await createTestServer();
});
afterAll(() => server.close());

/** Returns the rows such as "| `GET /v1/state` | client | … | … |". */
function documentedRoutes(markdown: string): string[] {
  const row = /^\| `([A-Z]+ \/\S*)` \| (none|client|admin) \|/gm;
  return [...markdown.matchAll(row)].map(([, route, access]) => `${route} ${access}`);
}

test('the table of docs/http-api.md has every route with its token, and no other', async () => {
  const documented = documentedRoutes(await readFile(new URL('../../docs/http-api.md', import.meta.url), 'utf8'));
  const routes = server.routes().filter(({ method }) => method !== 'HEAD');
  expect(documented.sort()).toEqual(routes.map(({ method, url, access }) => `${method} ${url} ${access}`).sort());
});

test('HEAD works wherever GET does', () => {
  const urlsOf = (method: string): string[] =>
    server
      .routes()
      .filter((route) => route.method === method)
      .map(({ url }) => url)
      .sort();
  expect(urlsOf('HEAD')).toEqual(urlsOf('GET'));
});
