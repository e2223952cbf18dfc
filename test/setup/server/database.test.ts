import { readdir } from 'node:fs/promises';
import pg from 'pg';
import { expect, inject, test } from 'vitest';
import { createEmptyDatabase, createTestDatabase } from './database.ts';

test('a test database has what the migrations make, an empty one has nothing', async () => {
  const migrated = await createTestDatabase();
  const empty = await createEmptyDatabase();
  try {
    const migrations = (await readdir('migrations')).filter((name) => name.endsWith('.sql'));
    expect((await tablesOf(migrated.pool)).length > 0).toBe(migrations.length > 0);
    expect(await tablesOf(empty.pool)).toEqual([]);
  } finally {
    await Promise.all([migrated.drop(), empty.drop()]);
  }
});

test('many databases are cloned at once, none sees another, and each is dropped although somebody is connected', async () => {
  const databases = await Promise.all(Array.from({ length: 8 }, () => createTestDatabase()));
  const visitor = new pg.Client({ connectionString: databases[0]?.url });
  visitor.on('error', () => undefined);
  await visitor.connect();
  await databases[0]?.pool.query('create table only_here (id int)');
  const tables = await Promise.all(databases.map(({ pool }) => tablesOf(pool)));
  expect(tables.map((names) => names.includes('only_here'))).toEqual([true, ...Array(7).fill(false)]);

  await Promise.all(databases.map(({ drop }) => drop()));
  await databases[0]?.drop();
  const server = new pg.Client({ connectionString: inject('serverUrl') });
  await server.connect();
  const names = databases.map(({ name }) => name);
  const left = await server.query('select datname from pg_database where datname = any($1)', [names]);
  await server.end();
  expect(left.rows).toEqual([]);
});

test('a database speaks UTF-8 on every server', async () => {
  const { pool, drop } = await createTestDatabase();
  const { rows } = await pool.query(
    `select current_setting('server_encoding') as encoding, convert_to('é🙂', 'UTF8') as bytes`,
  );
  await drop();
  expect(rows[0].encoding).toBe('UTF8');
  expect(rows[0].bytes).toEqual(Buffer.from('é🙂'));
});

async function tablesOf(pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query<{ name: string }>(
    `select tablename as name from pg_tables where schemaname = 'public' order by 1`,
  );
  return rows.map(({ name }) => name);
}
