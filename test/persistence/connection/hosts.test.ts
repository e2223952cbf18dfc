import { writeFile } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Database, openDatabase } from '../../../src/persistence/connection/database.ts';
import { createGuard } from '../../../src/persistence/connection/guard.ts';
import { createHosts } from '../../../src/persistence/connection/hosts.ts';
import { createSoleConnection } from '../../../src/persistence/connection/sole-connection.ts';
import { testConfig } from '../../setup/node/config.ts';
import { captureLog } from '../../setup/node/log.ts';
import { outcomeOf } from '../../setup/node/nodes.ts';
import { type PrivateServer, startPrivateServer } from '../../setup/server/private-server.ts';

const LOGIN = 'test%40user:p%2Fss%23';
const captured = captureLog();
let first: PrivateServer;
let second: PrivateServer;
const opened: Database[] = [];

beforeAll(async () => {
  [first, second] = await Promise.all([startPrivateServer(), startPrivateServer()]);
  for (const server of [first, second]) {
    await runOn(server, `create role "test@user" superuser login password 'p/ss#'`);
    await runOn(server, 'create database "a/b#c?d%"');
  }
});
afterAll(async () => {
  for (const database of opened) await database.close({ deadlineMs: 1_000 });
  await Promise.all([first, second].map((server) => server?.stop()));
});

async function queryOn(server: PrivateServer, statement: string): Promise<pg.QueryResult> {
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  try {
    return await client.query(statement);
  } finally {
    await client.end();
  }
}

async function runOn(server: PrivateServer, statement: string): Promise<void> {
  await queryOn(server, statement);
}

/** Turns a server into one that refuses writes, or back. Its sessions see this with their next transaction. */
async function setReadOnly(server: PrivateServer, isReadOnly: boolean): Promise<void> {
  await runOn(server, `alter system set default_transaction_read_only = ${isReadOnly ? 'on' : 'off'}`);
  await runOn(server, 'select pg_reload_conf()');
  const isSet = async () => {
    const { rows } = await queryOn(server, `select current_setting('default_transaction_read_only') = 'on' as is_on`);
    return rows[0]?.is_on;
  };
  await expect.poll(isSet).toBe(isReadOnly);
}

const hostsOf = (...ports: number[]): string => ports.map((port) => `127.0.0.1:${port}`).join();

function open(hosts: string, rest = 'postgres', variables: Record<string, string> = {}): Database {
  const { postgres } = testConfig(`postgres://${LOGIN}@${hosts}/${rest}`, variables);
  const database = openDatabase(postgres, { log: captured.log, applicationName: 'loom' });
  opened.push(database);
  return database;
}

async function portOf(database: Pick<Database, 'firstRow'>): Promise<number | undefined> {
  return (await database.firstRow<{ port: number }>('select inet_server_port() as port'))?.port;
}

/** Listens, accepts connections and never answers. */
async function startSilent(): Promise<{ port: number; close(): void }> {
  const server = createServer(() => undefined);
  return { port: await listen(server), close: () => void server.close() };
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return typeof address === 'object' ? (address?.port ?? 0) : 0;
}

describe('a standby', () => {
  test('is skipped until it is promoted', async () => {
    const standby = await startPrivateServer();
    try {
      await runOn(standby, `create role "test@user" superuser login password 'p/ss#'`);
      const { rows } = await queryOn(standby, 'show data_directory');
      await standby.shutDown();
      // PostgreSQL starts as a standby if this file exists (PostgreSQL's manual, "Standby Server Operation").
      await writeFile(join(String(rows[0]?.data_directory), 'standby.signal'), '');
      await standby.startAgain();
      for (const attributes of ['read-write', 'primary']) {
        const rest = `postgres?target_session_attrs=${attributes}`;
        expect(await portOf(open(hostsOf(standby.port, first.port), rest))).toBe(first.port);
      }
      const alone = open(hostsOf(standby.port));
      await expect(alone.execute('create table written ()')).rejects.toMatchObject({
        message: expect.stringContaining('The database is read-only'),
      });
      await runOn(standby, 'select pg_promote()');
      expect(await portOf(open(hostsOf(standby.port, first.port)))).toBe(standby.port);
      await alone.execute('create table written ()');
    } finally {
      await standby.stop();
    }
  });
});

describe('a URL with several hosts', () => {
  test('connects to the first that answers, in their order', async () => {
    const dead = await startSilent();
    dead.close();
    expect(await portOf(open(hostsOf(first.port, second.port)))).toBe(first.port);
    expect(await portOf(open(hostsOf(dead.port, second.port, first.port)))).toBe(second.port);
  });

  test('leaves time for the next host when one is silent', async () => {
    const silent = await startSilent();
    const database = open(hostsOf(silent.port, second.port), 'postgres', { LOOM_PG_CONNECT_TIMEOUT_MS: '2000' });
    expect(await portOf(database)).toBe(second.port);
    // Later connections do not try the silent host again.
    database.reset();
    expect(await portOf(database)).toBe(second.port);
    silent.close();
  });

  test('skips a server that refuses writes, and leaves one that begins to refuse them', async () => {
    await setReadOnly(second, true);
    const database = open(hostsOf(second.port, first.port));
    expect(await portOf(database)).toBe(first.port);
    await database.execute('create table written (id int)');
    await setReadOnly(first, true);
    await setReadOnly(second, false);
    await expect(database.execute('insert into written values (1)')).rejects.toMatchObject({
      code: 'database_unavailable',
      message: expect.stringContaining('read-only'),
    });
    expect(await portOf(database)).toBe(second.port);
    await setReadOnly(second, true);
    database.reset();
    await expect(database.execute('select 1')).rejects.toMatchObject({
      code: 'database_unavailable',
      message: expect.stringContaining('The database is read-only'),
    });
    await setReadOnly(first, false);
    expect(await portOf(database)).toBe(first.port);
    await setReadOnly(second, false);
  });

  test('takes a server that refuses writes only if the URL allows that', async () => {
    await setReadOnly(first, true);
    expect(await portOf(open(hostsOf(first.port)))).toBe(first.port);
    expect(await portOf(open(hostsOf(first.port, second.port), 'postgres?target_session_attrs=any'))).toBe(first.port);
    expect(await portOf(open(hostsOf(first.port, second.port), 'postgres?target_session_attrs=primary'))).toBe(
      first.port,
    );
    const strict = open(hostsOf(first.port), 'postgres?target_session_attrs=read-write');
    await expect(strict.rows('select 1')).rejects.toMatchObject({ message: expect.stringContaining('read-only') });
    await setReadOnly(first, false);
    expect(await portOf(strict)).toBe(first.port);
  });

  test('leaves a demoted server for the new one behind the same address, although requests never pause', async () => {
    let target = first.port;
    const proxy = createServer((socket) => {
      const upstream = connect(target, '127.0.0.1');
      for (const one of [socket, upstream]) one.on('error', () => undefined).on('close', () => socket.destroy());
      socket.pipe(upstream).pipe(socket);
    });
    const database = open(`127.0.0.1:${await listen(proxy)}`);
    await runOn(second, 'create table written (id int)');
    await database.execute('insert into written values (1)');
    await setReadOnly(first, true);
    target = second.port;
    const write = () => outcomeOf(database.execute('insert into written values (2)'));
    expect(await write()).toBe('database_unavailable');
    expect(await write()).toBe('made');
    expect(await portOf(database)).toBe(second.port);
    await setReadOnly(first, false);
    database.reset();
    proxy.close();
  });

  test('reports the first fault if no host can be reached', async () => {
    const [dead, other] = await Promise.all([startSilent(), startSilent()]);
    for (const one of [dead, other]) one.close();
    await expect(open(hostsOf(dead.port, other.port)).rows('select 1')).rejects.toMatchObject({
      code: 'database_unavailable',
      cause: { code: 'ECONNREFUSED' },
    });
    await expect(open(hostsOf(first.port, second.port), 'no_such_database').rows('select 1')).rejects.toMatchObject({
      cause: { code: '3D000' },
    });
  });

  test('reaches a database whose name has special characters', async () => {
    const row = await open(hostsOf(first.port), 'a%2Fb%23c%3Fd%25').firstRow('select current_database() as name');
    expect(row).toEqual({ name: 'a/b#c?d%' });
  });

  test('cuts a lent connection whose server has gone silent, and keeps a quiet one whose server answers', async () => {
    const { postgres } = testConfig(`postgres://${LOGIN}@${hostsOf(first.port, second.port)}/postgres`);
    const clients = await Promise.all(
      [first, second].map(async ({ url }) => {
        const client = new pg.Client({ connectionString: url });
        client.on('error', () => undefined);
        await client.connect();
        return client;
      }),
    );
    const options = {
      hosts: createHosts(postgres),
      log: captured.log,
      applicationName: 'loom',
      checkMs: 100,
      lookMs: 500,
    };
    const guard = createGuard(postgres, clients, options);
    const gone = (): boolean[] => clients.map((client) => client.connection.stream.destroyed);
    const asleep = clients.map((client) => client.query('select pg_sleep(60)').catch((error: unknown) => error));
    try {
      await first.freeze();
      await expect.poll(gone, { timeout: 20_000 }).toEqual([true, false]);
    } finally {
      guard.close();
      await first.thaw();
      for (const client of clients) client.connection.stream.destroy();
      await Promise.all(asleep);
    }
  });

  test('moves the pool when the probe moves, and closes its idle connections', async () => {
    const { postgres } = testConfig(`postgres://${LOGIN}@${hostsOf(first.port, second.port)}/postgres`);
    const hosts = createHosts(postgres);
    const database = openDatabase(postgres, { log: captured.log, applicationName: 'loom', hosts });
    opened.push(database);
    expect(await portOf(database)).toBe(first.port);
    await setReadOnly(first, true);
    const sole = createSoleConnection(postgres, { applicationName: 'loom-probe', onLost: () => undefined, hosts });
    await sole.connect();
    expect(await portOf(sole)).toBe(second.port);
    await expect.poll(() => database.usage().total).toBe(0);
    expect(await portOf(database)).toBe(second.port);
    sole.cut();
    await setReadOnly(first, false);
  });
});
