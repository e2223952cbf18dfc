// Room `server`: PostgreSQL for tests. It starts servers, and creates and inspects databases. Only the tests
// of the room may import `node`.

import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { inject } from 'vitest';
import type { Database } from '../../../src/persistence/connection/database.ts';
import { usesPooler } from '../roles/pooled.ts';
import { UNPREPARED } from '../roles/roles.ts';
import { openDoor } from './door.ts';
import { emptyForReuse, fingerprint } from './recycle.ts';

export interface TestDatabase {
  /** Superuser URL of this database. */
  url: string;
  name: string;
  /** The test's own connections, to inspect and spoil stored data. Opened on first use. */
  pool: pg.Pool;
  /** Returns LOOM's connections to it, which the first call opens. */
  door(): Database;
  /** Ends `pool` and `door`. Empties the database for a later test, or drops it by force. May be called twice. */
  drop(): Promise<void>;
}

/** Names of databases that equal a new clone of the template. */
const idle: string[] = [];
/** Fingerprint of a new clone. */
let pristine: string | undefined;

/** Returns a database with all migrations applied and no rows of any state. */
export async function createTestDatabase(): Promise<TestDatabase> {
  const template = inject('templateDatabase');
  if (template === undefined) {
    throw new Error(
      'The project "pure" has no PostgreSQL. Name this file *.postgres.test.ts: see test/vitest.config.ts.',
    );
  }
  const name = idle.pop() ?? (await createDatabase(template));
  const database = open(name, async () => {
    // PgBouncer keeps its connections to a database open.
    const isEmpty = !usesPooler && pristine !== undefined && (await emptyForReuse(database.url, pristine));
    // The old URL becomes invalid, so a node that a test left open cannot reach the database of the next one.
    const renamed = isEmpty ? await renameDatabase(name) : undefined;
    if (renamed === undefined) await dropDatabase(name);
    else idle.push(renamed);
  });
  pristine ??= await fingerprint(database.pool);
  return database;
}

/** Returns a database without any object of LOOM. `options` are those of `create database`, such as its locale. */
export async function createEmptyDatabase(options = ''): Promise<TestDatabase> {
  const name = await createDatabase('template0', options, UNPREPARED);
  return open(name, () => dropDatabase(name));
}

/** Returns a copy of the database. It must have no connections. */
export async function cloneDatabase(database: TestDatabase): Promise<TestDatabase> {
  if (usesPooler) await endSessions(database.name);
  const isPrepared = !database.name.startsWith(`${inject('databasePrefix')}${UNPREPARED}`);
  const name = await createDatabase(database.name, '', isPrepared ? '' : UNPREPARED);
  return open(name, () => dropDatabase(name));
}

const cloneAttempts = 20;

async function createDatabase(template: string, options = '', kind = ''): Promise<string> {
  const serverUrl = inject('serverUrl');
  const name = newName(kind);
  for (let attempt = 1; ; attempt += 1) {
    try {
      await runOnServer(serverUrl, `create database ${name} template ${template} encoding 'UTF8' ${options}`);
      return name;
    } catch (error) {
      const templateIsBusy = error instanceof pg.DatabaseError && error.code === '55006';
      if (!templateIsBusy || attempt === cloneAttempts) throw error;
      await sleep(100);
    }
  }
}

function open(name: string, release: () => Promise<void>): TestDatabase {
  const url = new URL(inject('serverUrl'));
  url.pathname = `/${name}`;
  const pool = openTolerantPool({ connectionString: url.href, max: 4 });
  let door: Database | undefined;
  let dropped: Promise<void> | undefined;
  const drop = async (): Promise<void> => {
    await pool.end();
    await door?.close({ deadlineMs: 5_000 });
    await release();
  };
  return {
    url: url.href,
    name,
    pool,
    door: () => {
      door ??= openDoor(url.href);
      return door;
    },
    drop: () => {
      dropped ??= drop();
      return dropped;
    },
  };
}

function newName(kind = ''): string {
  return `${inject('databasePrefix')}${kind}${randomBytes(6).toString('hex')}`;
}

/** Returns the new name; undefined if somebody is connected. */
function renameDatabase(name: string): Promise<string | undefined> {
  const renamed = newName();
  return runOnServer(inject('serverUrl'), `alter database ${name} rename to ${renamed}`).then(
    () => renamed,
    () => undefined,
  );
}

/** Ends the sessions that PgBouncer keeps. */
async function endSessions(name: string): Promise<void> {
  await runOnServer(
    inject('serverUrl'),
    `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${name}'`,
  );
}

function dropDatabase(name: string): Promise<void> {
  return runOnServer(inject('serverUrl'), `drop database if exists ${name} with (force)`);
}

/** Connections to the server's own database, which stay open for this worker's next statements. */
let serverPool: pg.Pool | undefined;

async function runOnServer(serverUrl: string, statement: string): Promise<void> {
  serverPool ??= openTolerantPool({ connectionString: serverUrl, max: 2, allowExitOnIdle: true });
  await serverPool.query(statement);
}

/**
 * Opens a pool whose connections may be lost at any time: tests kill them on purpose, and drop their databases. A
 * connection that is just being ended has no other listener.
 */
export function openTolerantPool(config: pg.PoolConfig): pg.Pool {
  const pool = new pg.Pool(config);
  pool.on('error', () => undefined);
  pool.on('connect', (client) => client.on('error', () => undefined));
  return pool;
}
