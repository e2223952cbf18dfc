import { once } from 'node:events';
import { Agent, type IncomingMessage, type OutgoingHttpHeaders, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { rounds } from '../../setup/depth.ts';
import { tally } from '../../setup/node/nodes.ts';
import { type Program, startProgram, waitUntil, waitUntilReady } from '../../setup/node/program.ts';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';
import { type PrivateServer, startPrivateServer } from '../../setup/server/private-server.ts';

const ADMIN_TOKEN = 'admin-token-of-the-restart-test';
const asAdmin = { 'x-loom-admin-token': ADMIN_TOKEN, 'content-type': 'application/json' };

let program: Program | undefined;
let database: TestDatabase | undefined;

afterEach(async () => {
  await program?.kill();
  await database?.drop();
  program = undefined;
  database = undefined;
});

async function startOn(url: string, more: Record<string, string>): Promise<Program> {
  program = await startProgram({ env: { LOOM_PG_URL: url, LOOM_ADMIN_TOKEN: ADMIN_TOKEN, ...more } });
  await waitUntilReady(program.url);
  return program;
}

interface Call {
  method?: string;
  path: string;
  body?: string;
  agent?: Agent | false;
  headers?: OutgoingHttpHeaders;
}

interface Answer {
  status: number;
  connection: string | undefined;
  code: string | undefined;
}

/** Stands for a connection that broke before the node took it: the request never began. */
const REFUSED = 'refused';

/** Sends one request. If the connection breaks, `code` is the code of Node, and `status` is 0. */
function call(url: string, { method = 'GET', path, body, agent = false, headers = {} }: Call): Promise<Answer> {
  return new Promise((resolve) => {
    const fail = (error: Error): void => {
      const code = 'code' in error ? String(error.code) : error.message;
      // The kernel accepts connections before the node does, and resets those when the node stops listening.
      const isRefused = code === 'ECONNREFUSED' || (code === 'ECONNRESET' && !asked.reusedSocket);
      resolve({ status: 0, connection: undefined, code: isRefused ? REFUSED : code });
    };
    const { hostname, port } = new URL(url);
    const asked = request({ hostname, port, path, method, agent, headers: { ...asAdmin, ...headers } });
    asked.on('error', fail);
    asked.on('response', (response: IncomingMessage) => {
      const chunks: Buffer[] = [];
      response.on('error', fail);
      response.on('data', (chunk: Buffer) => void chunks.push(chunk));
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        const problem = (response.headers['content-type'] ?? '').includes('problem+json') && text !== '';
        const code = problem ? JSON.parse(text).code : undefined;
        resolve({ status: response.statusCode ?? 0, connection: response.headers.connection, code });
      });
    });
    asked.end(body);
  });
}

function put(url: string, name: string, agent: Agent | false = false): Promise<Answer> {
  return call(url, { method: 'PUT', path: `/v1/documents/${name}`, body: '{"a":1}', agent });
}

interface Status {
  queue: { depth: number };
  pool: { waiting: number };
  operations: unknown[];
}

async function readStatus(url: string): Promise<Status> {
  return (await (await fetch(`${url}/v1/admin/status`, { headers: asAdmin })).json()) as Status;
}

/** Returns the time of the log line that begins with these words. */
function timeOf(output: string, words: string): number {
  return Date.parse(new RegExp(`"time":"([^"]+)"[^\\n]*"msg":"${words}`).exec(output)?.[1] ?? '');
}

test('each answer has Connection: close from SIGTERM on, whoever writes it', async () => {
  database = await createTestDatabase();
  const { url, terminate } = await startOn(database.url, { LOOM_SHUTDOWN_DELAY_MS: '60000' });
  const agent = new Agent({ keepAlive: true });
  expect((await put(url, 'before', agent)).connection).toBe('keep-alive');
  const early = request(`${url}/v1/documents/early`, {
    method: 'PUT',
    agent,
    headers: { ...asAdmin, expect: '100-continue' },
  });
  early.flushHeaders();
  await once(early, 'continue');

  terminate();
  await waitUntil(
    () => call(url, { path: '/ready' }),
    ({ status }) => status === 503,
  );
  early.end('1');
  const [answered] = await once(early, 'response');
  expect([answered.statusCode, answered.headers.connection]).toEqual([201, 'close']);
  answered.resume();
  const calls: (Call & { status: number })[] = [
    { path: '/live', status: 200 },
    { path: '/ready', status: 503 },
    { path: '/v1/state', status: 200 },
    { method: 'HEAD', path: '/v1/state', status: 200 },
    { path: '/v1/audit', headers: { accept: 'application/x-ndjson' }, status: 200 },
    { path: '/v1/admin/persistence/backup', status: 200 },
    { path: '/v1/admin/persistence/backup', headers: { 'accept-encoding': 'gzip' }, status: 200 },
    { path: '/nowhere', status: 404 },
    { path: '/v1/documents/missing', status: 404 },
    { path: '/v1/documents/%zz', status: 400 },
    { path: '/v1/state', headers: { 'x-loom-admin-token': 'a-wrong-token-of-a-test' }, status: 403 },
    { method: 'PUT', path: '/v1/documents/late', body: '1', status: 201 },
    { method: 'PUT', path: '/v1/documents/late', body: '{', status: 400 },
  ];
  for (const { status, ...one } of calls) {
    const answer = await call(url, { ...one, agent });
    expect({ ...one, ...answer }).toMatchObject({ status, connection: 'close' });
  }
  agent.destroy();
});

test('no request on a kept connection is reset or lost when the node closes', async () => {
  database = await createTestDatabase();
  for (let round = 0; round < rounds({ quick: 1, full: 20 }); round += 1) {
    const { url, terminate, stop } = await startOn(database.url, {});
    const outcomes: string[] = [];
    const made: string[] = [];
    const clients = Array.from({ length: 20 }, async (_, client) => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      for (let sent = 0; ; sent += 1) {
        const name = `${round}-${client}-${sent}`;
        const { status, code } = await put(url, name, agent);
        if (status === 201) made.push(name);
        outcomes.push(status === 201 ? 'made' : (code ?? String(status)));
        if (status !== 201) break;
        await sleep(client);
      }
      agent.destroy();
    });
    await waitUntil(
      () => Promise.resolve(made.length),
      (count) => count > 100,
    );
    terminate();
    await Promise.all(clients);
    expect(await stop()).toBe(0);
    // A refused connection never began, and `draining` says that nothing was done.
    const { made: count = 0, draining = 0, [REFUSED]: refused = 0, ...others } = tally(outcomes);
    expect(others).toEqual({});
    expect(draining + refused).toBe(20);
    expect(count).toBe(made.length);
    const { rows } = await database.pool.query('select name from loom_document where name like $1', [`${round}-%`]);
    expect(rows.map(({ name }) => name).sort()).toEqual(made.sort());
  }
}, 120_000);

test('a restore whose upload has not ended is aborted at the timeout, and counts as such', async () => {
  database = await createTestDatabase();
  const { url, stop, output } = await startOn(database.url, { LOOM_SHUTDOWN_TIMEOUT_MS: '500' });
  const upload = request(`${url}/v1/admin/persistence/restore`, { method: 'POST', agent: false, headers: asAdmin });
  upload.on('error', () => undefined);
  upload.write('{"confirm":"restore","backup":{"state":{"a":');
  await waitUntil(
    () => readStatus(url),
    ({ operations }) => operations.length === 1,
  );
  expect(await stop()).toBe(0);
  expect(output()).toContain('restore aborted');
  expect(output()).not.toContain('restore failed');
  expect((await database.pool.query('select from loom_document')).rowCount).toBe(0);
});

/** Locks the state row from outside the node. */
async function lockState(databaseUrl: string) {
  const client = new pg.Client(databaseUrl);
  client.on('error', () => undefined);
  await client.connect();
  await client.query('begin');
  await client.query('select from loom_state for update');
  // A transaction sees the activity as of its first look, unless it forgets that look.
  const waiting = `select from pg_stat_activity
                    where wait_event_type = 'Lock' and query like '%loom_commit%'`;
  return {
    untilOneWaits: () =>
      waitUntil(
        async () => {
          await client.query('select pg_stat_clear_snapshot()');
          return (await client.query(waiting)).rowCount;
        },
        (count) => count === 1,
      ),
    release: () => client.end(),
  };
}

describe('with a frozen database', () => {
  let server: PrivateServer;

  beforeAll(async () => {
    server = await startPrivateServer();
  });

  afterEach(() => server.thaw());

  afterAll(() => server.stop());

  test('the node ends on time, answers every waiting request, and makes no commit that it did not send', async () => {
    const timeoutMs = rounds({ quick: 3_000, full: 12_000 });
    const count = rounds({ quick: 300, full: 4_000 });
    const { url, stop, output } = await startOn(server.url, { LOOM_SHUTDOWN_TIMEOUT_MS: String(timeoutMs) });
    expect((await put(url, 'before')).status).toBeLessThan(300);
    // The status takes up to five connections, and one must be left for a batch.
    await Promise.all(Array.from({ length: 50 }, () => call(url, { path: '/v1/documents' })));
    const names = Array.from({ length: count }, (_, index) => `waiting-${index}`);
    const [first = '', ...others] = names;
    // The first commit is sent, and waits for the state row. The others are not sent.
    const holder = await lockState(server.url);
    const firstCommit = put(url, first);
    await holder.untilOneWaits();
    await server.freeze();
    const commits = [firstCommit, ...others.map((name) => put(url, name))];
    await waitUntil(
      () => readStatus(url),
      ({ queue }) => queue.depth === count,
    );
    // Some of the pages have a connection, and the others wait for one. The reads of one document share a statement.
    const paths = ['/v1/documents', '/v1/documents/before'];
    const reads = Array.from({ length: 40 }, (_, index) => call(url, { path: paths[index % 2] ?? '' }));
    await waitUntil(
      () => readStatus(url),
      ({ pool }) => pool.waiting >= 10,
    );
    expect(await stop()).toBe(0);
    // The answers keep the test busy, so only the node knows when it ended. The slack is for a busy machine.
    const lateMs = timeOf(output(), 'stopped') - timeOf(output(), 'shutting down') - timeoutMs;
    expect(lateMs).toBeLessThan(3_000);

    const answers = await Promise.all(commits);
    const codes = tally(answers.map(({ status, code }) => `${status} ${code}`));
    const { '503 draining': unsent = 0, '503 commit_outcome_unknown': unknown = 0, ...rest } = codes;
    expect(rest).toEqual({});
    expect(unsent).toBeGreaterThan(0);
    expect(unknown).toBeGreaterThan(0);
    expect(unsent + unknown).toBe(count);
    expect(tally((await Promise.all(reads)).map(({ status }) => String(status)))).toEqual({ 503: 40 });

    await server.thaw();
    await holder.release();
    const check = await startOn(server.url, {});
    // The backend of the lost batch ends before the row lock is free, so this commit comes after it.
    expect((await put(check.url, 'after')).status).toBe(201);
    const state = Object.keys((await (await fetch(`${check.url}/v1/state`, { headers: asAdmin })).json()) as object);
    const drained = names.filter((_name, index) => answers[index]?.code === 'draining');
    expect(state.filter((name) => drained.includes(name))).toEqual([]);
    console.info(`${count} waiting commits: ended ${lateMs} ms after the timeout`);
  });

  test('the node ends on time when nobody waits', async () => {
    const { url, stop } = await startOn(server.url, { LOOM_SHUTDOWN_TIMEOUT_MS: '1000' });
    expect((await put(url, 'before')).status).toBeLessThan(300);
    await server.freeze();
    const startedMs = performance.now();
    expect(await stop()).toBe(0);
    expect(performance.now() - startedMs).toBeLessThan(4_000);
  });

  test('a backup that waits counts as aborted', async () => {
    const { url, stop, output } = await startOn(server.url, { LOOM_SHUTDOWN_TIMEOUT_MS: '500' });
    expect((await put(url, 'before')).status).toBeLessThan(300);
    await server.freeze();
    const backup = call(url, { path: '/v1/admin/persistence/backup' });
    const restore = call(url, { method: 'POST', path: '/v1/admin/persistence/restore', body: '{"confirm":"replace"}' });
    await waitUntil(
      () => readStatus(url),
      ({ operations }) => operations.length === 2,
    );
    expect(await stop()).toBe(0);
    expect((await backup).status).toBe(503);
    expect((await restore).status).toBe(503);
    expect(output()).toContain('backup aborted');
    expect(output()).toContain('restore aborted');
    expect(output()).not.toMatch(/(backup|restore) failed/);
  });
});
