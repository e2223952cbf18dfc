import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestServer, type TestServer } from '../setup/node/http.ts';
import { codesIn, tableRows } from './rules/tables.ts';

let server: TestServer;
beforeAll(async () => {
  server = await createTestServer();
});
afterAll(() => server.close());

test('the table of docs/http-api.md has every route with its token and its query parameters, and no other', async () => {
  const page = await readFile(new URL('../../docs/http-api.md', import.meta.url), 'utf8');
  const documented = tableRows(page, 'route').map(([route = '', access, query = '']) => ({
    route: codesIn(route)[0],
    access,
    query: query === 'any' ? 'any' : codesIn(query).sort(),
  }));
  const registered = server
    .routes()
    .filter(({ method }) => method !== 'HEAD')
    .map(({ method, url, access, query }) => ({
      route: `${method} ${url}`,
      access,
      query: query === 'any' ? query : query.toSorted(),
    }));
  const byRoute = (one: { route?: string | undefined }, other: { route?: string | undefined }): number =>
    String(one.route).localeCompare(String(other.route));
  expect(documented.sort(byRoute)).toEqual(registered.sort(byRoute));
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
