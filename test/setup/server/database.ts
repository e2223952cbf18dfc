import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { inject } from 'vitest';
import type { Database } from '../../../src/persistence/connection/database.ts';
import { openDoor } from './door.ts';

export interface TestDatabase {
  /** Superuser URL of this database. */
  url: string;
  name: string;
  /** Connects when it is first used; for looking at, and spoiling, what the code under test left in the database. */
  pool: pg.Pool;
  /** LOOM's own connections to it. Opened when it is first used. */
  door(): Database;
  /** Ends `pool` and `door`, and drops the database, whoever is still connected to it. May be called twice. */
  drop(): Promise<void>;
}

/** A database with all migrations applied, cloned from the run's template. */
export function createTestDatabase(): Promise<TestDatabase> {
  return createDatabase(inject('templateDatabase'));
}

/** A database without anything of LOOM in it. `options`: of `create database`, such as its locale. */
export function createEmptyDatabase(options = ''): Promise<TestDatabase> {
  return createDatabase('template0', options);
}

/** As it is at this moment. Whoever is connected to it must have gone. */
export function cloneDatabase({ name }: TestDatabase): Promise<TestDatabase> {
  return createDatabase(name);
}

const cloneAttempts = 20;

async function createDatabase(template: string, options = ''): Promise<TestDatabase> {
  const serverUrl = inject('serverUrl');
  const name = `${inject('databasePrefix')}${randomBytes(6).toString('hex')}`;
  for (let attempt = 1; ; attempt += 1) {
    try {
      await runOnServer(serverUrl, `create database ${name} template ${template} encoding 'UTF8' ${options}`);
      break;
    } catch (error) {
      const templateIsBusy = error instanceof pg.DatabaseError && error.code === '55006';
      if (!templateIsBusy || attempt === cloneAttempts) throw error;
      await sleep(100);
    }
  }
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  const pool = new pg.Pool({ connectionString: url.href, max: 4 });
  // Tests kill connections on purpose; an idle one that dies is not a failure of its own.
  pool.on('error', () => undefined);
  let door: Database | undefined;
  let dropped: Promise<void> | undefined;
  const drop = async (): Promise<void> => {
    await pool.end();
    await door?.close({ deadlineMs: 5_000 });
    await runOnServer(serverUrl, `drop database if exists ${name} with (force)`);
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

async function runOnServer(serverUrl: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: serverUrl });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
