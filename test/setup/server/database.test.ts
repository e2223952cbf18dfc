import pg from 'pg';
import { expect, inject, test } from 'vitest';
import { openNodes } from '../node/nodes.ts';
import { createEmptyDatabase, createTestDatabase } from './database.ts';

test('a test database has the tables of the migrations, and an empty one has none', async () => {
  const migrated = await createTestDatabase();
  const empty = await createEmptyDatabase();
  try {
    expect(await tablesOf(migrated.pool)).toContain('loom_document');
    expect(await tablesOf(empty.pool)).toEqual([]);
  } finally {
    await Promise.all([migrated.drop(), empty.drop()]);
  }
});

test('databases can be created concurrently and are independent', async () => {
  const databases = await Promise.all(Array.from({ length: 8 }, () => createTestDatabase()));
  await databases[0]?.pool.query('create table only_here (id int)');
  const tables = await Promise.all(databases.map(({ pool }) => tablesOf(pool)));
  expect(tables.map((names) => names.includes('only_here'))).toEqual([true, ...Array(7).fill(false)]);
  await Promise.all(databases.map(({ drop }) => drop()));
  expect(await serverHas(databases[0]?.name)).toBe(false);
});

test('a database with only changed rows is emptied and reused', async () => {
  const node = await openNodes();
  await node.node.put('a', 1);
  await node.node.restore(await node.node.backup());
  const [name, oid] = [node.database.name, await oidOf(node.database.pool)];
  await node.close();
  const next = await createTestDatabase();
  // Under another name: a node that is still open cannot reach it.
  expect([await oidOf(next.pool), next.name === name]).toEqual([oid, false]);
  for (const table of await tablesOf(next.pool)) {
    const { rows } = await next.pool.query(`select count(*)::int as rows from ${table}`);
    expect({ table, ...rows[0] }).toEqual({ table, rows: table === 'loom_meta' ? expect.any(Number) : 0 });
  }
  await next.drop();
});

test.each([
  ['another table', 'create table more (id int)'],
  ['a disabled trigger', 'alter table loom_audit disable trigger user'],
  ['a missing trigger', 'drop trigger loom_audit_append_only on loom_audit'],
  ['another column', 'alter table loom_document add column more int'],
  ['another version', `update loom_meta set value = '99' where key = 'schema_version'`],
  ['a setting', `do $$ begin execute format('alter database %I set work_mem = 65', current_database()); end $$`],
  [
    'a replaced function',
    `create or replace function loom_value_sha256(value jsonb) returns bytea language sql immutable strict parallel safe as $$ select ''::bytea $$`,
  ],
])('a database with %s is dropped, not reused', async (_what, statement) => {
  const { name, pool, drop } = await createTestDatabase();
  await pool.query(statement);
  await drop();
  await drop();
  expect(await serverHas(name)).toBe(false);
});

test('a database with another connection is dropped, and the connection is ended', async () => {
  const { name, url, drop } = await createTestDatabase();
  const visitor = new pg.Client({ connectionString: url });
  const ended = new Promise((resolve) => visitor.once('end', resolve));
  visitor.on('error', () => undefined);
  await visitor.connect();
  await drop();
  await ended;
  expect(await serverHas(name)).toBe(false);
});

test('a database uses UTF-8 on every server', async () => {
  const { pool, drop } = await createTestDatabase();
  const { rows } = await pool.query(
    `select current_setting('server_encoding') as encoding, convert_to('é🙂', 'UTF8') as bytes`,
  );
  await drop();
  expect(rows[0].encoding).toBe('UTF8');
  expect(rows[0].bytes).toEqual(Buffer.from('é🙂'));
});

async function serverHas(name = ''): Promise<boolean> {
  const server = new pg.Client({ connectionString: inject('serverUrl') });
  await server.connect();
  const { rowCount } = await server.query('select from pg_database where datname = $1', [name]);
  await server.end();
  return rowCount === 1;
}

async function tablesOf(pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query<{ name: string }>(
    `select tablename as name from pg_tables where schemaname = 'public' order by 1`,
  );
  return rows.map(({ name }) => name);
}

async function oidOf(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query('select oid from pg_database where datname = current_database()');
  return rows[0].oid;
}
