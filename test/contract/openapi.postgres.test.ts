import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Validator } from '@seriousme/openapi-schema-validator';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { errorCodes } from '../../src/errors.ts';
import { readVersion } from '../../src/version.ts';
import { takeViolations } from '../setup/answers/checks.ts';
import { createFakeStoredBackups } from '../setup/backups/fake-stored-backups.ts';
import { assertCodeDescribed, assertDescribed, type Received } from '../setup/node/described.ts';
import { ADMIN_TOKEN, asAdmin, asClient, createTestServer, inject, type TestServer } from '../setup/node/http.ts';
import { listen } from '../setup/node/http-proxy.ts';
import { runProgramToEnd, startProgram, waitUntilReady } from '../setup/node/program.ts';
import { exchange } from '../setup/node/raw.ts';

interface Parameter {
  $ref?: string;
  name: string;
  in: string;
  required: boolean;
  schema: { examples?: unknown[]; default?: unknown; enum?: unknown[] };
}

interface Operation {
  operationId: string;
  security: object[];
  'x-loom-token': string;
  parameters: Parameter[];
  requestBody?: { content: Record<string, { examples: Record<string, { value: unknown }> }> };
  responses: Record<string, object>;
}

interface Document {
  info: { version: string };
  paths: Record<string, Record<string, Operation>>;
  components: { parameters: Record<string, Parameter> };
}

let server: TestServer;
let document: Document;
beforeAll(async () => {
  server = await createTestServer({}, { storedBackups: createFakeStoredBackups() });
  document = (await server.request('GET', '/openapi.json')).json();
});
afterAll(() => server.close());

const operations = () =>
  Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  );

test('docs/openapi.json is what a node serves: to renew it, run this file with -u', async () => {
  const released = { ...document, info: { ...document.info, version: readVersion() } };
  await expect(`${JSON.stringify(released, null, 2)}\n`).toMatchFileSnapshot('../../docs/openapi.json');
});

test('the document is valid by the schema of OpenAPI 3.1', async () => {
  const validator = new Validator();
  expect(await validator.validate({ ...document })).toEqual({ valid: true });
  expect(validator.version).toBe('3.1');
  const broken = structuredClone(document);
  Object.assign(broken.paths['/live']?.get ?? {}, { parameters: [{ name: 'a' }] });
  expect(await validator.validate({ ...broken })).toMatchObject({ valid: false });
});

test('the document has every route that the server has, with its token, and no other', () => {
  const documented = operations().map(({ path, method, operation }) => ({
    route: `${method} ${path.replace(/\{(\w+)\}/g, ':$1')}`,
    access: operation['x-loom-token'],
    isPublic: operation.security.length === 0,
  }));
  const registered = server.routes().map(({ method, url, access }) => ({
    route: `${method} ${url}`,
    access,
    isPublic: access === 'none',
  }));
  const byRoute = (one: { route: string }, other: { route: string }): number => one.route.localeCompare(other.route);
  expect(documented.sort(byRoute)).toEqual(registered.sort(byRoute));
  const ids = operations().map(({ operation }) => operation.operationId);
  expect(new Set(ids).size).toBe(ids.length);
});

test('the document has every error code that a node can send', () => {
  const text = JSON.stringify(document.paths) + JSON.stringify(document.components);
  const documented = new Set([...text.matchAll(/`([a-z0-9_]+)`: /g)].map(([, code]) => code));
  const missing = errorCodes().filter(({ code }) => !documented.has(code));
  // Of no route; only in the log; only of the program; only at the start of a node.
  const others = ['not_found', 'method_not_allowed', 'client_gone'];
  const programs = ['audit_history_lost', 'audit_history_unproven', 'migration_invalid'];
  // Only as the code of a run.
  const runs = ['store_full', 'stored_manifest_invalid', 'proof_mismatch', 'run_lost'];
  expect(missing.map(({ code }) => code).sort()).toEqual([...others, ...programs, ...runs].sort());
});

describe('every documented request is accepted', () => {
  test('with each of its examples, alone and with each query parameter and header', async () => {
    const counts = new Map<string, number>();
    for (const { label, ...request } of documentedRequests()) {
      // The helper checks the answer against the document.
      const answer = await inject(server, request);
      expect(answer.status, `${label}: ${answer.text}`).toBeLessThan(300);
      counts.set(label, (counts.get(label) ?? 0) + 1);
    }
    expect([...counts.keys()].sort()).toEqual(
      operations()
        .map(({ method, path }) => `${method} ${path}`)
        .sort(),
    );
  });
});

describe('an answer that the document does not describe is found', () => {
  const headers = { 'content-type': 'application/json', 'x-request-id': 'a', 'cache-control': 'no-store' };
  const live = { method: 'GET', url: '/live', status: 200, headers, text: '{"ok":true}' };
  const problem = { ...headers, 'content-type': 'application/problem+json' };
  const refused = (code: string, status: number): string =>
    JSON.stringify({ type: `urn:loom:problem:${code}`, title: 'a', status, code, detail: 'a', request_id: 'a' });

  test.each<[fault: string, message: string, changes: Partial<Received>]>([
    ['a status', 'does not have this status', { status: 202 }],
    ['a missing member', "must have required property 'ok'", { text: '{}' }],
    ['a wrong value', 'GET /live, status 200: at "/ok": must be boolean', { text: '{"ok":1}' }],
    [
      'another member',
      'must NOT have additional properties {"additionalProperty":"more"}',
      { text: '{"ok":true,"more":1}' },
    ],
    ['a media type', 'does not have the type "text/plain"', { headers: { ...headers, 'content-type': 'text/plain' } }],
    ['a header', 'does not have the header etag', { headers: { ...headers, etag: '"a.1"' } }],
    ['a missing header', 'has no header cache-control', { headers: { ...headers, 'cache-control': undefined } }],
    ['a value of a header', 'header cache-control', { headers: { ...headers, 'cache-control': 'public' } }],
    ['a body of HEAD', 'the answer has a body', { method: 'HEAD' }],
    ['a route', 'does not have this route', { url: '/lives' }],
    ['a code of another route', 'at "/code"', { status: 400, headers: problem, text: refused('confirm_missing', 400) }],
    [
      'a code with another status',
      'at "/status"',
      { status: 400, headers: problem, text: refused('invalid_parameter', 422) },
    ],
    ['an unknown code', 'at "/code"', { method: 'POST', status: 405, headers: problem, text: refused('other', 405) }],
  ])('%s', (_fault, message, changes) => {
    expect(() => assertDescribed(live)).not.toThrow();
    expect(() => assertDescribed({ ...live, ...changes })).toThrow(message);
  });

  test('a code of a verb', () => {
    expect(() => assertCodeDescribed(['putDocument'], 'queue_full')).not.toThrow();
    expect(() => assertCodeDescribed(['readDocument'], 'queue_full')).toThrow('does not have the code queue_full');
  });

  test('an answer to fetch, once the test reads it', async () => {
    const node = await listen((_request, response) => response.writeHead(200, headers).end('{"ok":1}'));
    const answer = await fetch(`${node.url}/live`);
    await expect(answer.json()).rejects.toThrow('GET /live, status 200: at "/ok"');
    await node.close();
  });
});

describe('every answer that a node sends is checked, whoever asks', () => {
  const headers = { 'content-type': 'application/json', 'x-request-id': 'a', 'cache-control': 'no-store' };
  const begun = '{"revision":1,"documents":[{"name":"a","more":1},{"na';

  test('to a raw socket, as far as it was sent, and of input that is no request', async () => {
    const node = createHttpServer((request, response) => {
      response.writeHead(200, headers);
      if (request.url === '/live') response.end('{"ok":1}');
      else response.write(begun, () => response.destroy());
    });
    node.on('clientError', (_error, socket) => {
      const head = Object.entries({ ...headers, 'content-type': 'application/problem+json' });
      socket.end(`HTTP/1.1 400 Bad Request\r\n${head.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n{}`);
    });
    node.listen(0, '127.0.0.1');
    await once(node, 'listening');
    const { port } = node.address() as AddressInfo;
    const ask = (path: string) => exchange(port, `GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
    const faults: [path: string, fault: string][] = [
      ['/live', 'GET /live, status 200: at "/ok": must be boolean'],
      [
        '/v1/documents',
        `in the first ${begun.length} characters: at "/documents/0": must NOT have additional properties`,
      ],
      ['nonsense', 'status 400: at "": must have required property \'type\''],
    ];
    for (const [path, fault] of faults) {
      await ask(path);
      expect((await takeViolations()).violations, path).toEqual([expect.stringContaining(fault)]);
    }
    node.close();
  });

  test('by a node in a process of its own', async () => {
    const before = (await takeViolations()).checked;
    const node = await startProgram({ env: { LOOM_PG_URL: server.database.url, LOOM_ADMIN_TOKEN: ADMIN_TOKEN } });
    await waitUntilReady(node.url);
    await runProgramToEnd(['status'], { LOOM_URL: node.url, LOOM_ADMIN_TOKEN: ADMIN_TOKEN });
    await node.stop();
    // The answers to `/ready`, and to the command.
    expect((await takeViolations()).checked).toBeGreaterThanOrEqual(before + 2);
  });
});

/** Returns the requests of the document, in an order in which each can succeed. */
function documentedRequests() {
  const ranks = ['PUT', 'PATCH', 'POST', 'GET', 'HEAD', 'DELETE'];
  const rank = (method: string, path: string): number => ranks.indexOf(method) + (path.endsWith('/undo') ? 0.5 : 0);
  return operations()
    .toSorted((one, other) => rank(one.method, one.path) - rank(other.method, other.path))
    .flatMap(({ path, method, operation }) => {
      const parameters = operation.parameters.map(resolve);
      const pathOf = (query: string): string =>
        path.replace(/\{(\w+)\}/g, (_, name: string) =>
          String(exampleOf(parameters.find((one) => one.name === name))),
        ) + query;
      const withHeaders = <Request extends { headers: object }>(plain: Request): Request[] =>
        parameters
          .filter((one) => one.in === 'header')
          .map((one) => {
            const value = one.name === 'idempotency-key' ? operation.operationId : String(exampleOf(one));
            return { ...plain, headers: { ...plain.headers, [one.name]: value } };
          });
      const base = { method: method as 'GET', label: `${method} ${path}` };
      const token = operation['x-loom-token'] === 'client' ? asClient : asAdmin;
      const headers = operation.security.length === 0 ? {} : token;
      const bodies = Object.entries(operation.requestBody?.content ?? {}).flatMap(([type, { examples }]) =>
        Object.values(examples).map(({ value }) => ({
          ...base,
          url: pathOf(''),
          headers: { ...headers, 'content-type': type },
          body: JSON.stringify(value),
        })),
      );
      // What is deleted once is gone.
      if (method === 'DELETE' && bodies.length > 0) return bodies.slice(0, 1);
      if (bodies.length > 0) return [...bodies, ...bodies.slice(0, 1).flatMap(withHeaders)];
      const plain = { ...base, url: pathOf(''), headers };
      if (method === 'DELETE') return [plain];
      const withQuery = parameters
        .filter((one) => one.in === 'query' && one.name !== 'scratch')
        .map((one) => ({ ...plain, url: pathOf(`?${one.name}=${encodeURIComponent(String(exampleOf(one)))}`) }));
      return [plain, ...withQuery, ...withHeaders(plain)];
    });
}

function resolve(parameter: Parameter): Parameter {
  const name = parameter.$ref?.split('/').at(-1);
  return name === undefined ? parameter : (document.components.parameters[name] ?? parameter);
}

function exampleOf(parameter: Parameter | undefined): unknown {
  const { examples, enum: choices, default: fallback } = parameter?.schema ?? {};
  const value = examples?.[0] ?? fallback ?? choices?.[0];
  if (value === undefined) throw new Error(`the parameter ${parameter?.name} has no example`);
  return value;
}
