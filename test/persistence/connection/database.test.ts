import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LoomError } from '../../../src/errors.ts';
import type { Connection } from '../../../src/persistence/connection/connection.ts';
import { type Database, openDatabase } from '../../../src/persistence/connection/database.ts';
import { rounds } from '../../setup/depth.ts';
import { testConfig } from '../../setup/node/config.ts';
import { captureLog } from '../../setup/node/log.ts';
import { createEmptyDatabase, type TestDatabase } from '../../setup/server/database.ts';

let server: TestDatabase;
let database: Database;
const captured = captureLog();
beforeAll(async () => {
  server = await createEmptyDatabase();
  const { postgres } = testConfig(server.url, { LOOM_PG_POOL_MAX: '3', LOOM_PG_CONNECT_TIMEOUT_MS: '500' });
  database = openDatabase(postgres, { log: captured.log, applicationName: 'loom door test' });
  await database.execute('create table note (id int primary key, body text)');
});
afterAll(async () => {
  await database.close({ deadlineMs: 1_000 });
  await server.drop();
});

async function backendPid(connection: Connection): Promise<number> {
  const row = await connection.firstRow<{ pid: number }>('select pg_backend_pid() as pid');
  return row?.pid ?? 0;
}

async function terminate(pid: number): Promise<void> {
  await server.pool.query('select pg_terminate_backend($1)', [pid]);
}

async function sessionsOf(pid: number): Promise<number> {
  const { rows } = await server.pool.query<{ sessions: number }>(
    'select count(*)::int as sessions from pg_stat_activity where pid = $1',
    [pid],
  );
  return rows[0]?.sessions ?? -1;
}

/** Ends the backend of a lent connection, and waits until it has gone. */
async function breakConnection(connection: Connection): Promise<void> {
  const pid = await backendPid(connection);
  await terminate(pid);
  await expect.poll(() => sessionsOf(pid)).toBe(0);
}

async function notes(): Promise<number[]> {
  const { rows } = await server.pool.query<{ id: number }>('select id from note order by id');
  return rows.map(({ id }) => id);
}

const nameOf = (one: Database) => one.firstRow(`select current_setting('application_name') as name`);

describe('the database', () => {
  test('names itself to PostgreSQL, unless the URL has a name', async () => {
    expect(await nameOf(database)).toEqual({ name: 'loom door test' });
    const { postgres } = testConfig(`${server.url}?application_name=billing`);
    const named = openDatabase(postgres, { log: captured.log, applicationName: 'loom' });
    expect(await nameOf(named)).toEqual({ name: 'billing' });
    await named.close({ deadlineMs: 1_000 });
  });

  test('changes no setting of its sessions, which a pooler may lend to others', async () => {
    const rows = await database.rows(
      `select name from pg_settings where source = 'session' or (source = 'client' and name not in
        ('application_name', 'client_encoding', 'DateStyle', 'TimeZone'))`,
    );
    expect(rows).toEqual([]);
  });

  test('reads int8 as a number, and refuses one that would be rounded', async () => {
    const row = await database.firstRow(
      'select 9007199254740991::int8 as largest, -1::int8 as negative, count(*) from note',
    );
    expect(row).toEqual({ largest: Number.MAX_SAFE_INTEGER, negative: -1, count: 0 });
    await expect(database.rows('select 9007199254740992::int8')).rejects.toMatchObject({
      code: 'internal',
      cause: { message: expect.stringContaining('does not fit into a number') },
    });
    expect(await database.rows('select 1 as one')).toEqual([{ one: 1 }]);
  });

  test('returns the number of changed rows, and no row as undefined', async () => {
    expect(await database.execute('update note set body = null')).toBe(0);
    expect(await database.firstRow('select id from note')).toBeUndefined();
  });

  test('refuses a borrower after the connect timeout when all connections are in use', async () => {
    let giveBack = (): void => undefined;
    const hold = new Promise<void>((resolve) => {
      giveBack = resolve;
    });
    const held = [database.withConnection(() => hold), database.withConnection(() => hold)];
    await expect(database.withConnection(async () => undefined)).rejects.toMatchObject({
      code: 'database_unavailable',
    });
    giveBack();
    await Promise.all(held);
  });

  test('ends a statement that does not answer before its deadline, and serves at once', async () => {
    const late = database.withConnection((connection) => connection.within(100).execute('select pg_sleep(30)'));
    await expect(late).rejects.toMatchObject({ code: 'database_unavailable' });
    expect(await database.rows('select 1 as one')).toEqual([{ one: 1 }]);
  });

  test('cancels a statement that did not answer before its deadline, so that the server does not go on', async () => {
    const running = async (): Promise<number> => {
      const { rows } = await server.pool.query<{ running: number }>(
        `select count(*)::int as running from pg_stat_activity
          where datname = current_database() and state = 'active' and query like '%pg_sleep(59)%'
            and pid <> pg_backend_pid()`,
      );
      return rows[0]?.running ?? -1;
    };
    const late = database.withConnection((connection) => connection.within(1_000).execute('select pg_sleep(59)'));
    await expect.poll(running).toBe(1);
    await expect(late).rejects.toMatchObject({ code: 'database_unavailable' });
    await expect.poll(running, { timeout: 10_000 }).toBe(0);
  });

  test('survives a connection that breaks while it is idle, and logs it', async () => {
    const pid = await database.withConnection(backendPid);
    const { total } = database.usage();
    await terminate(pid);
    await expect.poll(() => database.usage().total).toBe(total - 1);
    expect(await database.rows('select 1 as one')).toEqual([{ one: 1 }]);
    expect(captured.text()).toContain('an idle database connection broke');
  });

  test('survives a connection that breaks between two statements of a transaction', async () => {
    const outcome = database.transaction('write', async (connection) => {
      await breakConnection(connection);
      await connection.execute('insert into note values (900)');
    });
    await expect(outcome).rejects.toMatchObject({ code: 'database_unavailable' });
    expect(await notes()).toEqual([]);
  });

  test('cuts the connections that are still lent at the deadline of its close', async () => {
    const { postgres } = testConfig(server.url);
    const other = openDatabase(postgres, { log: captured.log, applicationName: 'loom' });
    const asleep = other
      .withConnection((connection) => connection.execute('select pg_sleep(60)'))
      .catch((error: unknown) => error);
    await expect.poll(() => other.usage()).toMatchObject({ total: 1, idle: 0 });
    const closing = other.close({ deadlineMs: 200 });
    expect(await asleep).toMatchObject({ code: 'database_unavailable' });
    await closing;
    await other.close({ deadlineMs: 200 });
    await expect(other.rows('select 1')).rejects.toMatchObject({ code: 'database_unavailable' });
  });

  test('writes no password into its log, whatever breaks', () => {
    const { password } = new URL(server.url);
    expect(captured.lines.length).toBeGreaterThan(0);
    if (password !== '') expect(captured.text()).not.toContain(password);
    expect(captured.text()).not.toContain('"client"');
  });
});

describe('connections to a server that is suspected', () => {
  /** Leaves two idle connections in the pool, and returns their server processes. */
  async function warmUp(): Promise<number[]> {
    const pids = await Promise.all(
      [1, 2].map(() =>
        database.withConnection(async (connection) => {
          await connection.execute('select pg_sleep(0.05)');
          return backendPid(connection);
        }),
      ),
    );
    expect(new Set(pids).size).toBe(2);
    return pids;
  }

  async function expectEnded(pids: number[]): Promise<void> {
    for (const pid of pids) await expect.poll(() => sessionsOf(pid)).toBe(0);
    expect(await database.rows('select 1 as one')).toEqual([{ one: 1 }]);
  }

  test('are closed by a reset: the idle ones at once, and a lent one when it comes back', async () => {
    const before = captured.lines.length;
    const pids = await warmUp();
    await database.withConnection(async (connection) => {
      database.reset();
      expect(pids).toContain(await backendPid(connection));
    });
    await expectEnded(pids);
    expect(captured.lines.slice(before).filter((line) => line.includes('"level":"warn"'))).toEqual([]);
  });

  test('are closed when a server refuses to write, also those that are idle', async () => {
    const pids = await warmUp();
    const refused = database.withConnection(async (connection) => {
      await connection.execute('set default_transaction_read_only = on');
      await connection.execute('insert into note values (700)');
    });
    await expect(refused).rejects.toMatchObject({
      code: 'database_unavailable',
      message: expect.stringContaining('The database is read-only'),
    });
    await expectEnded(pids);
    expect(await notes()).not.toContain(700);
  });

  test('are closed when a short statement has no answer', async () => {
    const pids = await warmUp();
    await expect(
      database.withConnection((connection) => connection.within(50).execute('select pg_sleep(1)')),
    ).rejects.toMatchObject({ code: 'database_unavailable' });
    await expectEnded(pids);
  });

  test('stay open after an error that says nothing about the server', async () => {
    const pids = await warmUp();
    await expect(database.rows('select 1 / 0')).rejects.toMatchObject({ code: 'internal' });
    await expect(database.rows('select from loom_nothing')).rejects.toMatchObject({ code: 'database_unavailable' });
    expect(pids).toContain(await database.withConnection(backendPid));
    for (const pid of pids) expect(await sessionsOf(pid)).toBe(1);
  });
});

describe('a transaction', () => {
  test('commits, and returns the result of its function', async () => {
    const answer = await database.transaction('write', async (connection) => {
      await connection.execute('insert into note values (1)');
      return 'done';
    });
    expect(answer).toBe('done');
    expect(await notes()).toEqual([1]);
  });

  test('rolls back when its function fails, passes the error on and gives the connection back', async () => {
    const failure = new LoomError('precondition_failed', 'No.');
    const failed = database.transaction('write', async (connection) => {
      await connection.execute('insert into note values (2)');
      throw failure;
    });
    await expect(failed).rejects.toBe(failure);
    expect(await notes()).toEqual([1]);
    const { total, idle } = database.usage();
    expect(idle).toBe(total);
    expect(total).toBeGreaterThan(0);
  });

  test('rejects with a LoomError when a statement fails, with the original as its cause', async () => {
    const failed = database.transaction('write', (connection) => connection.execute('insert into note values (1)'));
    await expect(failed).rejects.toMatchObject({ code: 'internal', cause: { code: '23505' } });
  });

  test('rejects when PostgreSQL answers the commit with a rollback', async () => {
    const swallowed = database.transaction('write', async (connection) => {
      await connection.execute('insert into note values (3)');
      await connection.execute('select 1 / 0').catch(() => undefined);
    });
    await expect(swallowed).rejects.toMatchObject({ code: 'internal' });
    expect(await notes()).toEqual([1]);
  });

  test.each(['read', 'snapshot'] as const)('in mode %s cannot write', async (mode) => {
    const refused = database.transaction(mode, (connection) => connection.execute('insert into note values (4)'));
    await expect(refused).rejects.toMatchObject({ cause: { code: '25006' } });
  });

  test('in mode snapshot sees one instant, however long it lasts', async () => {
    const seen = await database.transaction('snapshot', async (connection) => {
      const count = async () => (await connection.firstRow<{ count: number }>('select count(*) from note'))?.count;
      const before = await count();
      await server.pool.query('insert into note values (5)');
      return [before, await count()];
    });
    expect(seen).toEqual([1, 1]);
    expect(await notes()).toEqual([1, 5]);
  });

  test('has an unknown outcome when its connection breaks in the commit, unless it only reads', async () => {
    await server.pool.query(`
      create function hang_up() returns trigger language plpgsql as
        'begin perform pg_terminate_backend(pg_backend_pid()); return null; end';
      create constraint trigger hang_up after insert on note deferrable initially deferred
        for each row when (new.id = 6) execute function hang_up()`);
    const unknown = database.transaction('write', (connection) => connection.execute('insert into note values (6)'));
    await expect(unknown).rejects.toMatchObject({ code: 'commit_outcome_unknown' });
    await expect(database.transaction('read', breakConnection)).rejects.toMatchObject({
      code: 'database_unavailable',
    });
  });

  test('is rolled back when its signal aborts, and rejects with client_gone', async () => {
    const controller = new AbortController();
    const aborted = database.transaction(
      'write',
      async (connection) => {
        await connection.execute('insert into note values (8)');
        controller.abort();
        await connection.execute('select 1');
      },
      { signal: controller.signal },
    );
    await expect(aborted).rejects.toMatchObject({ code: 'client_gone' });
    const late = database.transaction('write', async () => 'done', { signal: controller.signal });
    await expect(late).rejects.toMatchObject({ code: 'client_gone' });
    expect(await notes()).not.toContain(8);
  });
});

describe('a connection that may be out of step', () => {
  test('is closed when a reader abandons a copy midway, and the pool serves at once, again and again', async () => {
    for (let round = 0; round < rounds({ quick: 5, full: 50 }); round += 1) {
      await database.withConnection(async (connection) => {
        for await (const lines of connection.copyOut(`select repeat('x', 1000) from generate_series(1, 100000)`)) {
          expect(lines.length).toBeGreaterThan(0);
          break;
        }
      });
      expect(await database.rows('select 1 as one')).toEqual([{ one: 1 }]);
    }
    expect(database.usage().waiting).toBe(0);
  });

  test('is closed when its function leaves a transaction open', async () => {
    const pid = await database.withConnection(async (connection) => {
      await connection.execute('begin');
      await connection.execute('insert into note values (7)');
      return backendPid(connection);
    });
    await expect.poll(() => sessionsOf(pid)).toBe(0);
    expect(await notes()).not.toContain(7);
  });

  test('is closed when the function throws an error that neither the database nor LOOM raised', async () => {
    const pids: number[] = [];
    const thrown = database.withConnection(async (connection) => {
      pids.push(await backendPid(connection));
      throw new TypeError('a bug');
    });
    await expect(thrown).rejects.toThrow('a bug');
    expect(await database.withConnection(backendPid)).not.toBe(pids[0]);
  });
});
