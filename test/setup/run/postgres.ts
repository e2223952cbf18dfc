// Room `run`: code that Vitest calls before, during and after a run.

import { randomBytes } from 'node:crypto';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { type Depth, readDepth } from '../depth.ts';
import { type BuiltProgram, buildProgram, buildRecorder, bundleProgram } from '../node/built.ts';
import { usesPooler } from '../roles/pooled.ts';
import { createTestRoles, usesRoles } from '../roles/roles.ts';
import { applyMigrations } from '../server/migrations.ts';
import { startServerPooler } from '../server/pooler.ts';
import { findTestServer } from '../server/test-server.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** Superuser URL of the run's server, for `create database` and `drop database`. */
    serverUrl: string;
    /** Prefix of all database names of this run. If the server stays, the run drops them all at its end. */
    databasePrefix: string;
    /** A database with all migrations applied, which `createTestDatabase` clones. */
    templateDatabase: string;
    /** Directory of the cluster that private servers copy; undefined if they call `initdb`. */
    blankCluster: string | undefined;
    /** The role of nodes in databases with all migrations; undefined if it is the superuser. */
    servingRole: string | undefined;
    /** The owner of the tables in these databases; undefined if it is the superuser. */
    ownerRole: string | undefined;
    /** Port of the PgBouncer of the run's server; undefined if nodes connect to the server. */
    pooledPort: number | undefined;
    /** Path of the `main.js` that tests start. A quick run joins the program into one file, which starts faster. */
    programEntry: string;
    /** Path of the file that records the answers of a node: see `setup/answers`. */
    answerRecorder: string;
    /** Path of the built program's `main.js`, as an operator installs it. */
    builtEntry: string;
  }
}

/**
 * Starts one server, migrates one template database and builds the program once, for all tests of the project
 * `postgres`. Returns a function that removes them. Vitest requires this name.
 */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const depth = readDepth(project.config.env?.LOOM_TEST_DEPTH);
  // The build and the server take seconds before the first test, and neither needs the other.
  const building = buildPrograms(depth);
  building.catch(() => undefined);
  const removeProgram = async (): Promise<void> => {
    const built = await building.catch(() => undefined);
    await built?.program.remove();
  };
  const server = await findTestServer(depth).catch(async (error: unknown) => {
    await removeProgram();
    throw error;
  });
  const databasePrefix = `loom_test_${randomBytes(4).toString('hex')}_`;
  const templateDatabase = `${databasePrefix}template`;
  let roles: PreparedRoles | undefined;
  const pooler = usesPooler ? await startServerPooler(server.url) : undefined;
  const tearDown = async (): Promise<void> => {
    try {
      await removeProgram();
      await pooler?.stop();
      if (server.outlivesRun) {
        await dropDatabases(server.url, databasePrefix);
        for (const name of roles?.names ?? []) await query(server.url, `drop role ${name}`);
      }
    } finally {
      await server.stop();
    }
  };
  try {
    await query(server.url, `create database ${templateDatabase} template template0 encoding 'UTF8'`);
    await applyMigrations(databaseUrl(server.url, templateDatabase));
    if (usesRoles) roles = await prepareRoles(databaseUrl(server.url, templateDatabase));
    // PostgreSQL cannot clone a database that has connections.
    await query(server.url, `alter database ${templateDatabase} with allow_connections false`);
    const { program, recorder, programEntry } = await building;
    project.provide('builtEntry', program.entry);
    project.provide('answerRecorder', recorder);
    project.provide('programEntry', programEntry);
  } catch (error) {
    await tearDown();
    throw error;
  }
  project.provide('serverUrl', server.url);
  project.provide('databasePrefix', databasePrefix);
  project.provide('templateDatabase', templateDatabase);
  project.provide('blankCluster', server.blankCluster);
  project.provide('servingRole', roles?.serve);
  project.provide('ownerRole', roles?.owner);
  project.provide('pooledPort', pooler?.port);
  return tearDown;
}

interface Programs {
  program: BuiltProgram;
  /** Path of the file that records the answers of a node. */
  recorder: string;
  /** Path of the `main.js` that tests start. */
  programEntry: string;
}

async function buildPrograms(depth: Depth): Promise<Programs> {
  const program = await buildProgram();
  try {
    const recorder = await buildRecorder(program);
    return { program, recorder, programEntry: depth === 'full' ? program.entry : await bundleProgram(program) };
  } catch (error) {
    await program.remove();
    throw error;
  }
}

interface PreparedRoles {
  serve: string;
  owner: string;
  names: string[];
}

/** Makes the roles of `docs/roles.sql` in the template, whose clones have the same rights. */
async function prepareRoles(url: string): Promise<PreparedRoles> {
  const pool = new pg.Pool({ connectionString: url, max: 1 });
  try {
    const { apply, serve, owner, read } = createTestRoles(pool);
    await apply();
    return { serve, owner, names: [serve, owner, read] };
  } finally {
    await pool.end();
  }
}

export function databaseUrl(serverUrl: string, database: string): string {
  const url = new URL(serverUrl);
  url.pathname = `/${database}`;
  return url.href;
}

async function dropDatabases(serverUrl: string, prefix: string): Promise<void> {
  const names = await query(serverUrl, 'select datname as name from pg_database where starts_with(datname, $1)', [
    prefix,
  ]);
  for (const { name } of names) await query(serverUrl, `drop database if exists "${name}" with (force)`);
}

async function query(url: string, text: string, values: string[] = []): Promise<{ name: string }[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<{ name: string }>(text, values)).rows;
  } finally {
    await client.end();
  }
}
