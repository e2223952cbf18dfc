import { PassThrough } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Pool, PoolClient } from 'pg';
import { to as copyTo } from 'pg-copy-streams';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LoomError } from '../../../src/errors.ts';
import { closePool, createPool } from '../../../src/persistence/connection/pool.ts';
import { inTransaction, withClient } from '../../../src/persistence/connection/transaction.ts';
import { testConfig } from '../../setup/node/config.ts';
import { captureLog } from '../../setup/node/log.ts';
import { createEmptyDatabase, type TestDatabase } from '../../setup/server/database.ts';

let database: TestDatabase;
let pool: Pool;
const captured = captureLog();
beforeAll(async () => {
  database = await createEmptyDatabase();
  const { postgres } = testConfig(database.url, { LOOM_PG_POOL_MAX: '2', LOOM_PG_CONNECT_TIMEOUT_MS: '500' });
  pool = createPool(postgres, { log: captured.log, applicationName: 'loom pool test' });
  await pool.query('create table note (id int primary key, body text)');
});
afterAll(async () => {
  await closePool(pool, { deadlineMs: 1_000 });
  await database.drop();
});

async function backendPid(client: PoolClient): Promise<number> {
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
  return rows[0]?.pid ?? 0;
}

async function terminate(pid: number): Promise<void> {
  await database.pool.query('select pg_terminate_backend($1)', [pid]);
}

async function notes(): Promise<number[]> {
  const { rows } = await database.pool.query<{ id: number }>('select id from note order by id');
  return rows.map(({ id }) => id);
}

describe('the pool', () => {
  test('names itself to PostgreSQL, unless the URL has a name', async () => {
    expect((await pool.query(`select current_setting('application_name') as name`)).rows).toEqual([
      { name: 'loom pool test' },
    ]);
    const { postgres } = testConfig(`${database.url}?application_name=billing`);
    const named = createPool(postgres, { log: captured.log, applicationName: 'loom' });
    expect((await named.query(`select current_setting('application_name') as name`)).rows).toEqual([
      { name: 'billing' },
    ]);
    await closePool(named, { deadlineMs: 1_000 });
  });

  test('changes no setting of its sessions, which a pooler may hand to others', async () => {
    const { rows } = await pool.query(
      `select name from pg_settings where source = 'session' or (source = 'client' and name not in
        ('application_name', 'client_encoding', 'DateStyle', 'TimeZone'))`,
    );
    expect(rows).toEqual([]);
  });

  test('reads int8 as a number, and refuses one that would be rounded', async () => {
    const { rows } = await pool.query(
      `select 9007199254740991::int8 as most, -1::int8 as negative, count(*) from note`,
    );
    expect(rows).toEqual([{ most: Number.MAX_SAFE_INTEGER, negative: -1, count: 0 }]);
    await expect(pool.query('select 9007199254740992::int8')).rejects.toThrow('does not fit into a number');
    expect((await pool.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
  });

  test('refuses a borrower after the connect timeout when all connections are in use', async () => {
    const held = await Promise.all([pool.connect(), pool.connect()]);
    const refused = withClient(pool, async () => undefined);
    await expect(refused).rejects.toMatchObject({ code: 'database_unavailable' });
    for (const client of held) client.release();
  });

  test('outlives a connection that breaks while it is idle, and says so in the log', async () => {
    const pid = await withClient(pool, backendPid);
    const removed = new Promise((resolve) => pool.once('remove', resolve));
    await terminate(pid);
    await removed;
    expect((await pool.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
    expect(captured.text()).toContain('an idle database connection broke');
  });

  test('outlives a connection that breaks while it is lent out and between two statements', async () => {
    const outcome = inTransaction(pool, 'write', async (client) => {
      const broken = new Promise((resolve) => client.once('end', resolve));
      await terminate(await backendPid(client));
      await broken;
      await client.query('insert into note values (900)');
    });
    await expect(outcome).rejects.toMatchObject({ code: 'database_unavailable' });
    expect(await notes()).toEqual([]);
  });

  test('cuts off at the deadline what does not come back when it is closed', async () => {
    const { postgres } = testConfig(database.url);
    const other = createPool(postgres, { log: captured.log, applicationName: 'loom' });
    const asleep = withClient(other, (client) => client.query('select pg_sleep(60)')).catch((error: unknown) => error);
    await expect.poll(() => other.totalCount - other.waitingCount).toBe(1);
    const closing = closePool(other, { deadlineMs: 200 });
    expect(await asleep).toMatchObject({ code: 'database_unavailable' });
    await closing;
    await closePool(other, { deadlineMs: 200 });
    expect(other.ended).toBe(true);
  });

  test('writes no password into its log, whatever breaks', () => {
    const { password } = new URL(database.url);
    expect(captured.lines.length).toBeGreaterThan(0);
    if (password !== '') expect(captured.text()).not.toContain(password);
    expect(captured.text()).not.toContain('"client"');
  });
});

describe('a transaction', () => {
  test('commits what it did, and answers what its function answered', async () => {
    const answer = await inTransaction(pool, 'write', async (client) => {
      await client.query('insert into note values (1)');
      return 'done';
    });
    expect(answer).toBe('done');
    expect(await notes()).toEqual([1]);
  });

  test('undoes everything when its function fails, passes the error on and gives the connection back', async () => {
    const failure = new LoomError('precondition_failed', 'No.');
    const failed = inTransaction(pool, 'write', async (client) => {
      await client.query('insert into note values (2)');
      throw failure;
    });
    await expect(failed).rejects.toBe(failure);
    expect(await notes()).toEqual([1]);
    expect(pool.idleCount).toBe(pool.totalCount);
    expect(pool.totalCount).toBeGreaterThan(0);
  });

  test('becomes a LoomError when a statement fails, with the original as its cause', async () => {
    const failed = inTransaction(pool, 'write', (client) => client.query('insert into note values (1)'));
    await expect(failed).rejects.toMatchObject({ code: 'internal', cause: { code: '23505' } });
  });

  test('does not pretend to have committed what PostgreSQL rolled back', async () => {
    const swallowed = inTransaction(pool, 'write', async (client) => {
      await client.query('insert into note values (3)');
      await client.query('select 1 / 0').catch(() => undefined);
    });
    await expect(swallowed).rejects.toMatchObject({ code: 'internal' });
    expect(await notes()).toEqual([1]);
  });

  test.each(['read', 'snapshot'] as const)('in mode %s cannot write', async (mode) => {
    const refused = inTransaction(pool, mode, (client) => client.query('insert into note values (4)'));
    await expect(refused).rejects.toMatchObject({ cause: { code: '25006' } });
  });

  test('in mode snapshot sees one instant, however long it lasts', async () => {
    const seen = await inTransaction(pool, 'snapshot', async (client) => {
      const count = async () => (await client.query('select count(*) from note')).rows[0]?.count;
      const before = await count();
      await database.pool.query('insert into note values (5)');
      return [before, await count()];
    });
    expect(seen).toEqual([1, 1]);
    expect(await notes()).toEqual([1, 5]);
  });

  test('whose connection breaks in the commit has an unknown outcome, and a reading one has not', async () => {
    await pool.query(`
      create function hang_up() returns trigger language plpgsql as
        'begin perform pg_terminate_backend(pg_backend_pid()); return null; end';
      create constraint trigger hang_up after insert on note deferrable initially deferred
        for each row when (new.id = 6) execute function hang_up()`);
    const unknown = inTransaction(pool, 'write', (client) => client.query('insert into note values (6)'));
    await expect(unknown).rejects.toMatchObject({ code: 'commit_outcome_unknown' });
    const reading = inTransaction(pool, 'read', async (client) => {
      const broken = new Promise((resolve) => client.once('end', resolve));
      await terminate(await backendPid(client));
      await broken;
    });
    await expect(reading).rejects.toMatchObject({ code: 'database_unavailable' });
  });
});

describe('a connection that may be out of step', () => {
  test('is closed when a reader goes away in the middle of a copy, and the pool serves at once, fifty times', async () => {
    for (let round = 0; round < 50; round += 1) {
      const given = withClient(pool, async (client) => {
        const rows = client.query(copyTo(`copy (select repeat('x', 1000) from generate_series(1, 100000)) to stdout`));
        const reader = new PassThrough();
        rows.once('data', () => reader.destroy());
        await pipeline(rows, reader);
      });
      await expect(given).rejects.toThrow();
      expect((await pool.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
    }
    expect(pool.waitingCount).toBe(0);
  });

  test('is closed when its function leaves a transaction open', async () => {
    const pid = await withClient(pool, async (client) => {
      await client.query('begin');
      await client.query('insert into note values (7)');
      return backendPid(client);
    });
    const gone = `select count(*)::int as sessions from pg_stat_activity where pid = $1`;
    await expect.poll(async () => (await database.pool.query(gone, [pid])).rows).toEqual([{ sessions: 0 }]);
    expect(await notes()).not.toContain(7);
  });

  test('is closed when the function throws something that is no error of the database or of LOOM', async () => {
    const pids: number[] = [];
    const thrown = withClient(pool, async (client) => {
      pids.push(await backendPid(client));
      throw new TypeError('a bug');
    });
    await expect(thrown).rejects.toThrow('a bug');
    expect(await withClient(pool, backendPid)).not.toBe(pids[0]);
  });
});
