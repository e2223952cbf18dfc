import { createServer } from 'node:net';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LoomError } from '../../../src/errors.ts';
import {
  describeFault,
  faultOf,
  isConnectionFault,
  isInStep,
  ReadOnlyServerError,
  sqlStateOf,
  toDatabaseError,
} from '../../../src/persistence/connection/faults.ts';
import { createEmptyDatabase, type TestDatabase } from '../../setup/server/database.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await createEmptyDatabase();
});
afterAll(() => database.drop());

/** Makes PostgreSQL raise an error with this SQLSTATE, and returns it. */
async function raise(sqlState: string): Promise<unknown> {
  return database.pool
    .query(`do $$ begin raise exception 'a secret detail' using errcode = '${sqlState}'; end $$`)
    .catch((error: unknown) => error);
}

describe('an error of PostgreSQL', () => {
  test.each([
    ['55P03', 'state_busy', false],
    ['40001', 'state_busy', false],
    ['40P01', 'state_busy', false],
    ['57014', 'database_unavailable', false],
    ['25006', 'database_unavailable', false],
    ['53100', 'database_unavailable', false],
    ['53300', 'database_unavailable', false],
    ['58030', 'database_unavailable', false],
    ['57P01', 'database_unavailable', true],
    ['57P02', 'database_unavailable', true],
    ['57P03', 'database_unavailable', true],
    ['08006', 'database_unavailable', true],
    ['08P01', 'database_unavailable', true],
    ['28P01', 'database_unavailable', true],
    ['3D000', 'database_unavailable', true],
    ['23505', 'internal', false],
    ['42501', 'database_unavailable', false],
    ['42P01', 'database_unavailable', false],
    ['42703', 'database_unavailable', false],
    ['42883', 'database_unavailable', false],
    ['XX000', 'internal', false],
    ['P0001', 'internal', false],
  ] as const)('SQLSTATE %s becomes %s, connection gone: %s', async (sqlState, code, connectionGone) => {
    const error = await raise(sqlState);
    expect(sqlStateOf(error)).toBe(sqlState);
    const shown = toDatabaseError(error);
    expect(shown.code).toBe(code);
    expect(shown.cause).toBe(error);
    expect(shown.message).not.toContain('secret');
    expect(shown.retryAfterSeconds).toEqual(code === 'internal' ? undefined : expect.any(Number));
    expect(isConnectionFault(error)).toBe(connectionGone);
  });

  test('is state_busy for a real lock timeout', async () => {
    await database.pool.query('create table contended (id int)');
    const holder = await database.pool.connect();
    const waiter = await database.pool.connect();
    try {
      await holder.query('begin; lock table contended');
      await waiter.query(`begin; set local lock_timeout = '50ms'`);
      const error = await waiter.query('lock table contended').catch((cause: unknown) => cause);
      expect(toDatabaseError(error).code).toBe('state_busy');
    } finally {
      holder.release(true);
      waiter.release(true);
    }
  });
});

describe('a fault of the schema, the rights or the server names its cause', () => {
  test.each([
    ['25006', 'read_only', 'read-only'],
    ['42501', 'forbidden', 'lacks a right'],
    ['42P01', 'schema_damaged', 'schema is missing'],
    ['42883', 'schema_damaged', 'schema is missing'],
    ['53100', 'disk_full', 'disk is full'],
    ['53200', 'overloaded', 'could not execute'],
  ] as const)('SQLSTATE %s is %s', async (sqlState, fault, words) => {
    const error = await raise(sqlState);
    expect(faultOf(error)).toBe(fault);
    const shown = toDatabaseError(error);
    expect(faultOf(shown)).toBe(fault);
    expect(shown.message).toContain(words);
    expect(shown.message).not.toContain('secret');
  });

  test.each([
    ['select from loom_nothing', 'relation loom_nothing does not exist'],
    ['select loom_commit(1)', 'function loom_commit(integer) does not exist'],
    ['set role pg_monitor; create table public.x ()', 'permission denied for schema public'],
  ])('%s', async (statement, named) => {
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    const error = await client.query(statement).catch((cause: unknown) => cause);
    await client.end();
    expect(toDatabaseError(error).message).toContain(`PostgreSQL reports: ${named}.`);
  });

  test('a connection to a read-only server is not used again, and others are', async () => {
    const states = ['25006', '57P01', '42501', '53100', '55P03'];
    const inStep = await Promise.all(states.map(async (state) => isInStep(await raise(state))));
    expect(inStep).toEqual([false, false, true, true, true]);
    expect(faultOf(new ReadOnlyServerError())).toBe('read_only');
    expect(isInStep(new ReadOnlyServerError())).toBe(false);
  });
});

describe('a fault of the network', () => {
  test('a port on which no program listens', async () => {
    const port = await freePort();
    const error = await connectError(`postgres://user:hidden@127.0.0.1:${port}/database`);
    expect(toDatabaseError(error).code).toBe('database_unavailable');
    expect(isConnectionFault(error)).toBe(true);
    expect(describeFault(error)).toContain('ECONNREFUSED');
  });

  test('a host name that does not exist', () => {
    const error = Object.assign(new Error('getaddrinfo ENOTFOUND nowhere.invalid'), { code: 'ENOTFOUND' });
    expect(toDatabaseError(error).code).toBe('database_unavailable');
    expect(describeFault(error)).toBe('the connection failed with ENOTFOUND');
  });

  test('a server that accepts, and then closes the connection or stays silent', async () => {
    const rude = createServer((socket) => socket.destroy());
    const silent = createServer(() => undefined);
    const errors = await Promise.all([rude, silent].map(async (server) => connectError(await listenUrl(server))));
    for (const server of [rude, silent]) server.close();
    expect(errors.map((error) => toDatabaseError(error).code)).toEqual([
      'database_unavailable',
      'database_unavailable',
    ]);
  });

  test('a session that an administrator ends in the middle of a statement', async () => {
    const client = await database.pool.connect();
    client.on('error', () => undefined);
    const { rows } = await client.query('select pg_backend_pid() as pid');
    const asleep = client.query('select pg_sleep(60)').catch((error: unknown) => error);
    await database.pool.query('select pg_terminate_backend($1)', [rows[0]?.pid]);
    const error = await asleep;
    client.release(true);
    expect(toDatabaseError(error).code).toBe('database_unavailable');
    expect(isConnectionFault(error)).toBe(true);
  });
});

test('the name of a database that does not exist is explained', async () => {
  const url = new URL(database.url);
  url.pathname = '/loom_no_such_database';
  const error = await connectError(url.href);
  expect(describeFault(error)).toBe('the database of LOOM_PG_URL does not exist (3D000)');
  expect(describeFault(toDatabaseError(error))).toBe(describeFault(error));
});

test('the cause of an unknown outcome is that of the broken connection', () => {
  const broken = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' });
  const error = new LoomError('commit_outcome_unknown', 'The connection broke.', { cause: toDatabaseError(broken) });
  expect(describeFault(error)).toBe('the connection failed with ECONNRESET');
  expect(isInStep(error)).toBe(false);
});

test('a LoomError is returned unchanged', () => {
  const error = new LoomError('queue_full', 'Too many commits are waiting.');
  expect(toDatabaseError(error)).toBe(error);
});

test('any other error becomes internal, with its cause but without its text', () => {
  for (const cause of [
    new TypeError('x of undefined, password=hunter2'),
    'a string',
    undefined,
    null,
    { code: '57P01' },
  ]) {
    const error = toDatabaseError(cause);
    expect(error.code).toBe('internal');
    expect(error.message).toBe('An internal error.');
    expect(isConnectionFault(cause)).toBe(false);
    expect(describeFault(cause)).toBeTypeOf('string');
  }
});

async function connectError(url: string): Promise<unknown> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 500 });
  client.on('error', () => undefined);
  return client.connect().then(
    () => 'connected',
    (error: unknown) => error,
  );
}

async function listenUrl(server: ReturnType<typeof createServer>): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return `postgres://user@127.0.0.1:${typeof address === 'object' ? address?.port : ''}/database`;
}

async function freePort(): Promise<string> {
  const server = createServer();
  const { port } = new URL(await listenUrl(server));
  await new Promise((resolve) => server.close(resolve));
  return port;
}
