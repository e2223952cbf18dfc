import { once } from 'node:events';
import { request } from 'node:http';
import { afterEach, describe, expect, test } from 'vitest';
import { type Program, runProgramToEnd, startProgram, waitUntil, waitUntilReady } from '../../setup/node/program.ts';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';
import { type PrivateServer, startPrivateServer } from '../../setup/server/private-server.ts';

const ADMIN_TOKEN = 'admin-token-of-the-shutdown-test';
const asAdmin = { 'x-loom-admin-token': ADMIN_TOKEN, 'content-type': 'application/json' };

let program: Program | undefined;
let database: TestDatabase | undefined;
let server: PrivateServer | undefined;

afterEach(async () => {
  await program?.stop();
  await database?.drop();
  await server?.stop();
  program = undefined;
  database = undefined;
  server = undefined;
});

async function startOn(url: string, more: Record<string, string> = {}): Promise<Program> {
  program = await startProgram({ env: { LOOM_PG_URL: url, LOOM_ADMIN_TOKEN: ADMIN_TOKEN, ...more } });
  return program;
}

interface Answer {
  status: number;
  body: { reason?: string; code?: string; checks?: Record<string, string> };
}

/** Sends a request on a new connection, as a probe does. Status 0 means that the node no longer listens. */
function ask(url: string, path: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(`${url}${path}`, { agent: false, headers: asAdmin }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => void chunks.push(chunk));
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, body: JSON.parse(Buffer.concat(chunks).toString('utf8')) }),
      );
    });
    asked.on('error', (error) =>
      'code' in error && (error.code === 'ECONNREFUSED' || error.code === 'ECONNRESET')
        ? resolve({ status: 0, body: {} })
        : reject(error),
    );
    asked.end();
  });
}

function put(url: string, name: string, value: unknown): Promise<Response> {
  return fetch(`${url}/v1/documents/${name}`, { method: 'PUT', headers: asAdmin, body: JSON.stringify(value) });
}

/** Begins a PUT whose body ends when `finish` is called. Status 0 means that the node closed the connection. */
async function openPut(url: string, name: string): Promise<{ finish(): Promise<number> }> {
  const headers = { ...asAdmin, expect: '100-continue' };
  const put = request(`${url}/v1/documents/${name}`, { method: 'PUT', agent: false, headers });
  const status = new Promise<number>((resolve) => {
    put.on('response', (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode ?? 0));
    });
    put.on('error', () => resolve(0));
  });
  put.flushHeaders();
  await once(put, 'continue');
  put.write('{"sent":"before and ');
  return {
    finish: () => {
      put.end('after"}');
      return status;
    },
  };
}

describe('SIGTERM', () => {
  test('makes the node unready at once, lets open requests finish, and ends it with exit code 0', async () => {
    database = await createTestDatabase();
    const { url, terminate, running, output, stop } = await startOn(database.url, { LOOM_SHUTDOWN_DELAY_MS: '3000' });
    await waitUntilReady(url);
    const open = await openPut(url, 'open');

    terminate();
    const draining = await waitUntil(
      () => ask(url, '/ready'),
      ({ status }) => status !== 200,
    );
    expect(draining).toMatchObject({ status: 503, body: { reason: 'draining', checks: { http: 'draining' } } });
    expect((await ask(url, '/live')).status).toBe(200);
    expect((await put(url, 'late', {})).status).toBe(201);

    await waitUntil(
      () => ask(url, '/live'),
      ({ status }) => status === 0,
    );
    expect(running(), output()).toBe(true);
    expect(await open.finish()).toBe(201);
    expect(await stop()).toBe(0);
    const { rows } = await database.pool.query('select name, value from loom_document order by name');
    expect(rows).toEqual([
      { name: 'late', value: {} },
      { name: 'open', value: { sent: 'before and after' } },
    ]);
  });

  test('aborts requests that are open after LOOM_SHUTDOWN_TIMEOUT_MS, and stores no part of them', async () => {
    database = await createTestDatabase();
    const { url, stop } = await startOn(database.url, { LOOM_SHUTDOWN_TIMEOUT_MS: '500' });
    await waitUntilReady(url);
    const open = await openPut(url, 'open');
    expect(await stop()).toBe(0);
    expect(await open.finish()).toBe(0);
    expect((await database.pool.query('select from loom_document')).rowCount).toBe(0);
  });
});

describe('a database that is unreachable', () => {
  test('does not prevent a node from starting, and the node is ready when the database appears', async () => {
    server = await startPrivateServer();
    await server.shutDown();
    const { url, running, output } = await startOn(server.url);
    expect(await ask(url, '/live')).toMatchObject({ status: 200 });
    const first = await ask(url, '/ready');
    expect(first.status).toBe(503);
    expect(['starting', 'db_unreachable']).toContain(first.body.reason);
    expect(await ask(url, '/v1/state')).toMatchObject({ status: 503 });
    await waitUntil(
      () => ask(url, '/ready'),
      ({ body }) => body.reason === 'db_unreachable',
    );
    expect(await ask(url, '/v1/state')).toMatchObject({ status: 503, body: { code: 'database_unavailable' } });
    expect((await put(url, 'a', 1)).status).toBe(503);

    await server.startAgain();
    await waitUntilReady(url);
    expect((await put(url, 'a', 1)).status).toBe(201);
    expect(running(), output()).toBe(true);
    expect(output()).not.toContain('"level":"fatal"');
  });

  test('does not prevent a node from stopping', async () => {
    server = await startPrivateServer();
    await server.shutDown();
    const { url, stop } = await startOn(server.url);
    expect((await ask(url, '/ready')).status).toBe(503);
    expect(await stop()).toBe(0);
  });

  test('never ends a running node, which recovers by itself after a restart and after a crash', async () => {
    server = await startPrivateServer();
    const { url, running, output, stop } = await startOn(server.url);
    await waitUntilReady(url);
    for (const [index, goAway] of [server.shutDown, server.kill].entries()) {
      expect((await put(url, `before-${index}`, index)).status).toBe(201);
      await goAway();
      await waitUntil(
        () => ask(url, '/ready'),
        ({ status }) => status === 503,
      );
      expect(await ask(url, '/v1/state')).toMatchObject({ status: 503, body: { code: 'database_unavailable' } });
      expect((await ask(url, '/live')).status).toBe(200);
      await server.startAgain();
      await waitUntilReady(url);
      expect((await put(url, `after-${index}`, index)).status).toBe(201);
    }
    expect(running(), output()).toBe(true);
    expect(await (await fetch(`${url}/v1/state`, { headers: asAdmin })).json()).toEqual({
      'before-0': 0,
      'after-0': 0,
      'before-1': 1,
      'after-1': 1,
    });
    expect(await ask(url, '/v1/audit/verify')).toMatchObject({ status: 200, body: { ok: true, entries: 4 } });
    expect(await stop()).toBe(0);
  });
});

describe('a wrong configuration', () => {
  test('ends the program at once with exit code 78 and one message that lists every problem', async () => {
    const { code, output } = await runProgramToEnd(['serve'], {
      LOOM_ADMIN_TOKEN: 'too-short',
      LOOM_PORT: 'http',
      LOOM_PG_POOL_MAX: '1',
      LOOM_PG_POOLMAX: '5',
      LOOM_LOG_LEVEL: 'loud',
    });
    expect(code).toBe(78);
    const problems = output.split('\n').filter((line) => line.startsWith('- '));
    const names = [
      'LOOM_PG_URL',
      'LOOM_ADMIN_TOKEN',
      'LOOM_PORT',
      'LOOM_PG_POOL_MAX',
      'LOOM_PG_POOLMAX',
      'LOOM_LOG_LEVEL',
    ];
    expect(problems.map((problem) => problem.split(' ')[1]).sort()).toEqual(names.sort());
  });

  test('has a different exit code from an unknown command', async () => {
    const { code, output } = await runProgramToEnd(['sevre'], {});
    expect(code).toBe(64);
    expect(output).toContain('Unknown command: sevre');
  });
});
