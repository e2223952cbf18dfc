import { Validator } from '@seriousme/openapi-schema-validator';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Store } from '../../src/domain/store.ts';
import { errorCodes } from '../../src/errors.ts';
import { readVersion } from '../../src/version.ts';
import {
  asAdmin,
  asClient,
  createBareServer,
  createTestServer,
  inject,
  type TestServer,
  testConfig,
} from '../setup/node/http.ts';

let server: TestServer;
beforeAll(async () => {
  server = await createTestServer();
});
afterAll(() => server.close());

const file = '../../docs/openapi.json';

test('docs/openapi.json is what a node serves: to renew it, run this file with -u', async () => {
  const text = (await server.request('GET', '/openapi.json')).text;
  const document = JSON.parse(text);
  document.info.version = readVersion();
  await expect(`${JSON.stringify(document, null, 2)}\n`).toMatchFileSnapshot(file);
});
