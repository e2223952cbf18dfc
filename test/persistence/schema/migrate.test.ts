import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, inject, it } from 'vitest';
import { createProbe } from '../../../src/persistence/probe/probe.ts';
import { migrate } from '../../../src/persistence/schema/migrate.ts';
import { loadMigrations, type Migration, parseMigration } from '../../../src/persistence/schema/migrations.ts';
import { CURRENT_SCHEMA_VERSION, readSchemaStatus } from '../../../src/persistence/schema/schema.ts';
import { testConfig } from '../../setup/node/config.ts';
import { captureLog } from '../../setup/node/log.ts';
import { outcomeOf } from '../../setup/node/nodes.ts';
import { openTestStore, verify } from '../../setup/node/store.ts';
import { createEmptyDatabase, type TestDatabase } from '../../setup/server/database.ts';
import { digestTables } from '../../setup/server/digest.ts';
import { openDoor } from '../../setup/server/door.ts';

const migrations = await loadMigrations();
const NEXT = migrations.length + 1;

function next(kind: 'compatible' | 'breaking', sql: string): Migration {
  return parseMigration(`${String(NEXT).padStart(4, '0')}_next.sql`, Buffer.from(`-- loom: ${kind}\n${sql};\n`));
}

let database: TestDatabase;
beforeEach(async () => {
  database = await createEmptyDatabase();
});
afterEach(() => database.drop());

async function tables(): Promise<string[]> {
  const { rows } = await database.pool.query<{ name: string }>(
    `select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' order by 1`,
  );
  return rows.map(({ name }) => name);
}

describe('the migrations', () => {
  it('bring an empty database to the newest schema, and a second time do nothing', async () => {
    expect(await readSchemaStatus(database.door(), migrations)).toMatchObject({
      initialized: false,
      schemaVersion: null,
      instanceId: null,
      applied: [],
      pending: migrations.map(({ version, name }) => ({ version, name })),
    });
    expect(await migrate(database.door(), migrations)).toEqual(migrations.map(({ name }) => name));
    const status = await readSchemaStatus(database.door(), migrations);
    expect(status).toMatchObject({ initialized: true, schemaVersion: CURRENT_SCHEMA_VERSION, pending: [] });
    expect(status.applied).toEqual(
      migrations.map(({ version, name, sha256 }) => ({ version, name, sha256, applied_at: expect.any(String) })),
    );
    expect(status.instanceId).toMatch(/^[0-9a-f-]{36}$/);

    const before = await digestTables(database.pool);
    expect(await migrate(database.door(), migrations)).toEqual([]);
    expect(await digestTables(database.pool)).toBe(before);
  });

  it('bring a database of the first schema to the newest one with all its data, and its restores can be undone', async () => {
    await migrate(database.door(), migrations.slice(0, 1));
    const node = await openTestStore(database.url);
    try {
      await node.put('of schema 1', 1);
      const [state, head] = [await node.state(), await node.store.readHead()];
      expect(await migrate(database.door(), migrations)).toEqual(migrations.slice(1).map(({ name }) => name));
      expect([await node.state(), await node.store.readHead()]).toEqual([state, head]);
      const backup = await node.backup();
      await node.put('later', 2);
      await node.restore(backup);
      expect(await node.state()).toEqual(state);
      await node.undo();
      expect(await node.state()).toEqual({ ...state, later: 2 });
      expect(await verify(node)).toMatchObject({ ok: true, entries: 6 });
    } finally {
      await node.close();
    }
  });

  it('are applied once each when 8 nodes start at the same time', async () => {
    const all = [
      ...migrations,
      next('compatible', 'create table only_once (id int); insert into only_once values (1)'),
    ];
    const nodes = Array.from({ length: 8 }, () => openDoor(database.url, 1));
    try {
      const applied = await Promise.all(nodes.map((node) => migrate(node, all)));
      expect(applied.flat().toSorted()).toEqual(all.map(({ name }) => name));
    } finally {
      await Promise.all(nodes.map((node) => node.close({ deadlineMs: 5_000 })));
    }
    const status = await readSchemaStatus(database.door(), all);
    expect(status.applied.map(({ version }) => version)).toEqual(all.map(({ version }) => version));
    expect((await database.pool.query('select * from only_once')).rows).toEqual([{ id: 1 }]);
  });

  it('are refused if an applied one has been edited since', async () => {
    await migrate(database.door(), migrations);
    const edited = migrations.map((one) => parseMigration(one.name, Buffer.from(`${one.sql}-- a harmless remark\n`)));
    const before = await digestTables(database.pool);
    await expect(migrate(database.door(), edited)).rejects.toMatchObject({ code: 'migration_invalid' });
    await expect(
      migrate(database.door(), [...edited, next('compatible', 'create table a (x int)')]),
    ).rejects.toMatchObject({
      code: 'migration_invalid',
    });
    expect(await digestTables(database.pool)).toBe(before);
    expect(await tables()).not.toContain('a');
  });

  it('leave nothing behind if one fails midway', async () => {
    const broken = parseMigration('0001_broken.sql', Buffer.from(`${migrations[0]?.sql ?? ''}\nselect 1 / 0;\n`));
    expect(await outcomeOf(migrate(database.door(), [broken]))).toBe('internal');
    expect(await tables()).toEqual([]);

    await migrate(database.door(), migrations);
    const before = await digestTables(database.pool);
    const second = next('compatible', 'create table half (x int); select 1 / 0');
    expect(await outcomeOf(migrate(database.door(), [...migrations, second]))).toBe('internal');
    expect(await tables()).not.toContain('half');
    expect(await digestTables(database.pool)).toBe(before);
    const repaired = next('compatible', 'create table half (x int)');
    expect(await migrate(database.door(), [...migrations, repaired])).toEqual([repaired.name]);
  });

  it.each(['SQL_ASCII', 'LATIN1'])('refuse a database in %s, and leave nothing in it', async (encoding) => {
    const name = `${inject('databasePrefix')}${randomBytes(6).toString('hex')}`;
    await database.pool.query(`create database ${name} template template0 encoding '${encoding}' locale 'C'`);
    const url = new URL(database.url);
    url.pathname = `/${name}`;
    const door = openDoor(url.href, 1);
    try {
      await expect(migrate(door, migrations)).rejects.toMatchObject({
        code: 'migration_invalid',
        message: expect.stringContaining(encoding),
      });
      expect(await readSchemaStatus(door, migrations)).toMatchObject({ initialized: false });
    } finally {
      await door.close({ deadlineMs: 5_000 });
      await database.pool.query(`drop database ${name} with (force)`);
    }
  });

  it('have names and first lines that say what they are', () => {
    const parse = (name: string, sql: string) => () => parseMigration(name, Buffer.from(sql));
    expect(parse('0001_a.sql', '-- loom: compatible\n')()).toMatchObject({ version: 1, kind: 'compatible' });
    expect(parse('0012_a_b.sql', '-- loom: breaking\nselect 1;')()).toMatchObject({ version: 12, kind: 'breaking' });
    for (const name of ['1_a.sql', '0001-a.sql', '0001_A.sql', '0001_.sql']) {
      expect(parse(name, '-- loom: compatible\n')).toThrow(/has an invalid name/);
    }
    for (const sql of ['', 'select 1;', '-- loom: additive\n', '\n-- loom: compatible\n', '-- loom: compatible']) {
      expect(parse('0001_a.sql', sql)).toThrow(/is neither/);
    }
  });
});

describe('a node on a database with a newer schema', () => {
  it('that is compatible serves it, and never lowers its version', async () => {
    await migrate(database.door(), [
      ...migrations,
      next('compatible', 'alter table loom_document add column later text'),
    ]);
    expect(await migrate(database.door(), migrations)).toEqual([]);
    const node = await openTestStore(database.url);
    try {
      await node.put('a', 1);
      const backup = await node.backup();
      expect(JSON.parse(backup).schema_version).toBe(CURRENT_SCHEMA_VERSION);
      await node.put('a', 2);
      await node.restore(backup);
      expect(await node.state()).toEqual({ a: 1 });
      expect(await verify(node)).toMatchObject({ ok: true });
      const status = await node.store.readSchema();
      expect(status).toMatchObject({ schemaVersion: NEXT, compatibleFrom: 1, pending: [] });
      expect(status.applied).toHaveLength(NEXT);
    } finally {
      await node.close();
    }
  });

  it('that is breaking reads, and writes nothing', async () => {
    await migrate(database.door(), migrations);
    const node = await openTestStore(database.url);
    try {
      await node.put('a', 1);
      const backup = await node.backup();
      const breaking = [...migrations, next('breaking', 'select 1')];
      expect(await migrate(database.door(), breaking)).toHaveLength(1);
      const before = await digestTables(database.pool);

      expect(await migrate(database.door(), migrations)).toEqual([]);
      expect(await outcomeOf(node.put('a', 2))).toBe('schema_ahead');
      expect(await outcomeOf(node.restore(backup))).toBe('schema_ahead');
      expect(await outcomeOf(node.restore(backup, { dry_run: true }))).toBe('schema_ahead');
      await node.takeBackup();
      expect(await node.state()).toEqual({ a: 1 });
      expect(JSON.parse(await node.backup()).state).toEqual({ a: 1 });
      expect(await node.store.readSchema()).toMatchObject({ schemaVersion: NEXT, compatibleFrom: NEXT });
      expect(await digestTables(database.pool)).toBe(before);
    } finally {
      await node.close();
    }
  });

  it('that becomes breaking during a restore refuses the restore, and writes nothing', async () => {
    await migrate(database.door(), migrations);
    const node = await openTestStore(database.url);
    try {
      await node.put('a', 1);
      const body = Buffer.from(`{"confirm":"restore","backup":${await node.backup()}}`);
      await node.put('a', 2);
      const arriving = new Readable({ read: () => undefined });
      arriving.push(body.subarray(0, 200));
      const outcome = outcomeOf(node.restoreBody(arriving));
      await expect.poll(() => node.store.observe().operations[0]?.bytes).toBe(200);
      await migrate(database.door(), [...migrations, next('breaking', 'select 1')]);
      const before = await digestTables(database.pool);
      arriving.push(body.subarray(200));
      arriving.push(null);
      expect(await outcome).toBe('schema_ahead');
      expect(await digestTables(database.pool)).toBe(before);
    } finally {
      await node.close();
    }
  });

  it('that is breaking reports it in its probe', async () => {
    await migrate(database.door(), [...migrations, next('breaking', 'select 1')]);
    const probe = createProbe({
      postgres: testConfig(database.url).postgres,
      log: captureLog().log,
      applicationName: 'loom',
      supportedSchemaVersion: CURRENT_SCHEMA_VERSION,
    });
    probe.start();
    try {
      await expect.poll(() => probe.verdict().reason, { timeout: 10_000 }).toBe('schema_ahead');
    } finally {
      await probe.close();
    }
  });
});
