import { describe, expect, it } from 'vitest';
import { loadMigrations } from '../../src/persistence/schema/migrations.ts';
import { CURRENT_SCHEMA_VERSION } from '../../src/persistence/schema/schema.ts';
import { controlsTransaction, createdTables, destructiveStatements } from './rules/migration-rules.ts';

const migrations = await loadMigrations();

/** Lists released files. A node refuses a database that has applied a different file, so these never change. */
const released = {
  '0001_first_schema.sql': '806ecda58cbe3c62d886fc9f08f2d8b74d7e131cf4fd7913688730bc2de7abf7',
  '0002_undo_and_imports.sql': '8817b77550c84e2f149d43d7759ee4f680384389e793283c8ae226591f4206d3',
  '0003_bounded_commits.sql': 'ff715f39c7904bf5f94cdb36971ea577af3c3399f0918006eff3bf7613d6e0c0',
  '0004_trail_makes_state.sql': '83b2989e71997ba964dc7a78e628bbb27a522a71dd66567fd22326d657ee518d',
};

describe('the migrations', () => {
  it('lead to the schema version of this node', () => {
    expect(migrations.at(-1)?.version).toBe(CURRENT_SCHEMA_VERSION);
  });

  it.each(migrations.map(({ name, kind, sql }) => ({ name, kind, sql })))(
    '$name parses, and has no destructive statement if it is compatible',
    async ({ kind, sql }) => {
      const found = await destructiveStatements(sql);
      expect(kind === 'compatible' ? found : []).toEqual([]);
    },
  );

  it.each(migrations.map(({ name, sql }) => ({ name, sql })))(
    '$name gives its reason and the locks that it takes',
    ({ sql }) => {
      const [, why, locks] = sql.split('\n');
      expect(why).toMatch(/^-- Why: \S/);
      expect(locks).toMatch(/^-- Locks: \S/);
    },
  );

  it.each(migrations.map(({ name, sql }) => ({ name, sql })))(
    '$name leaves the transaction to the runner',
    async ({ sql }) => {
      expect(await controlsTransaction(sql)).toBe(false);
    },
  );

  it('are the files that were released, byte for byte', () => {
    expect(Object.fromEntries(migrations.map(({ name, sha256 }) => [name, sha256]))).toMatchObject(released);
  });
});

describe('the rule finds', () => {
  it.each([
    ['drop table a', 'drops an object'],
    ['drop table if exists a cascade', 'drops an object'],
    ['drop index a', 'drops an object'],
    ['drop function f(int)', 'drops an object'],
    ['drop trigger t on a', 'drops an object'],
    ['drop owned by someone', 'drops objects'],
    ['truncate a', 'truncates a table'],
    ['delete from a', 'deletes every row'],
    ['update a set x = 1', 'rewrites every row'],
    ['alter table a drop column x', 'drops a column'],
    ['alter table a add column y int, drop column x', 'drops a column'],
    ['alter table a drop constraint c', 'drops a constraint'],
    ['alter table a alter column x type text', 'changes the type of a column'],
    ['alter table a alter column x set not null', 'makes a column not null'],
    ['alter table a add column x int not null', 'adds a column that older nodes leave empty'],
    ['alter table a rename to b', 'renames an object'],
    ['alter table a rename column x to y', 'renames an object'],
    ['alter function f() rename to g', 'renames an object'],
    [`alter type mood rename value 'sad' to 'blue'`, 'renames a value'],
    ['alter table a set schema elsewhere', 'moves an object'],
    [`do $$ begin execute 'drop table a'; end $$`, 'runs a block of code'],
    ['create table b (x int); -- drop nothing\ndrop view v', 'drops an object'],
  ])('%s', async (sql, fault) => {
    expect(await destructiveStatements(sql)).toEqual([fault]);
  });

  it.each([
    'create table a (x int not null)',
    'create index concurrently i on a (x)',
    'alter table a add column x int',
    'alter table a add column x int not null default 0',
    'alter table a add column x int generated always as (1) stored not null',
    'alter table a alter column x set default 1',
    'alter table a alter column x drop not null',
    'delete from a where x = 1',
    `insert into a values ('drop table a')`,
    'create or replace function f() returns void language plpgsql as $$ begin truncate a; drop table a; end $$',
  ])('nothing in: %s', async (sql) => {
    expect(await destructiveStatements(sql)).toEqual([]);
  });

  it.each(['begin;', 'BEGIN TRANSACTION; COMMIT AND CHAIN;', 'start transaction;', 'rollback', 'savepoint a'])(
    'the transaction in: %s',
    async (sql) => {
      expect(await controlsTransaction(sql)).toBe(true);
    },
  );

  it('the tables, however they are created', async () => {
    const sql = 'create table a (x int); CREATE TABLE IF NOT EXISTS b (x int); create view c as select 1;';
    expect(await createdTables(sql)).toEqual(['a', 'b']);
    expect(await controlsTransaction(sql)).toBe(false);
  });

  it('input that is not SQL', async () => {
    await expect(destructiveStatements('create tabel a (x int)')).rejects.toThrow(/syntax error/);
  });
});
