import { readFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkAgainst } from '../../../src/backup/offline/against.ts';
import { verifyBackup } from '../../../src/backup/offline/verifier.ts';
import { assertLedgerMatches } from '../../../src/persistence/schema/migrate.ts';
import { loadMigrations } from '../../../src/persistence/schema/migrations.ts';
import { CURRENT_SCHEMA_VERSION, readSchemaStatus } from '../../../src/persistence/schema/schema.ts';
import { judgeServing } from '../../../src/persistence/schema/serving.ts';
import { readServingFacts } from '../../../src/persistence/schema/serving-facts.ts';
import { sampleByKind } from '../../setup/depth.ts';
import { asSuperuser } from '../../setup/faults/superuser.ts';
import { type Finder, type Threat, threats } from '../../setup/faults/threats.ts';
import { openTestStore, type TestStore, verify } from '../../setup/node/store.ts';
import { createTestRoles, type TestRoles } from '../../setup/roles/roles.ts';
import { cloneDatabase, createEmptyDatabase, type TestDatabase } from '../../setup/server/database.ts';
import { applyMigrations } from '../../setup/server/migrations.ts';
import { verifyBySql } from '../../setup/server/verify-sql.ts';

const migrations = await loadMigrations();

let source: TestDatabase;
let pool: pg.Pool;
let roles: TestRoles;
let earlier: string;
beforeAll(async () => {
  // Its own pool stays closed: a database with an open connection cannot be cloned.
  source = await createEmptyDatabase();
  await applyMigrations(source.url);
  pool = new pg.Pool({ connectionString: source.url, max: 1, idleTimeoutMillis: 1 });
  roles = createTestRoles(pool);
  await roles.apply();
  const node = await openTestStore(source.url);
  for (const name of ['a', 'b', 'c']) await node.put(name, { n: 1 });
  await node.commit({ action: 'document.patch', changes: [{ op: 'merge', name: 'b', json: '{"m":[1e21],"n":null}' }] });
  const first = await node.backup();
  await node.put('d', { n: 2 });
  await node.restore(first);
  for (const name of ['e', 'f']) await node.put(name, { n: 3 });
  await node.commit({ action: 'document.delete', changes: [{ op: 'delete', name: 'c' }] });
  earlier = await node.backup();
  for (const name of ['g', 'h', 'i']) await node.put(name, { n: 4 });
  await node.close();
});
afterAll(async () => {
  await roles.drop();
  await pool.end();
  await source.drop();
});

async function trailOf(text: string) {
  const open = () => Readable.from([Buffer.from(text)]);
  return { ...(await verifyBackup(open, { schemaVersion: CURRENT_SCHEMA_VERSION })), open };
}

/** Returns whether `verify FILE --against EARLIER` fails, asks for attention, or notes another origin. */
async function isFoundInFile(node: TestStore): Promise<boolean> {
  try {
    const [file, before] = [await trailOf(await node.backup()), await trailOf(earlier)];
    const { kind } = await checkAgainst(file, before);
    const isSameOrigin = file.header.instance_id === before.header.instance_id;
    return kind !== 'continued' || !isSameOrigin || (file.fold?.mismatches.length ?? 0) > 0;
  } catch {
    return true;
  }
}

async function isFoundBySql(database: TestDatabase): Promise<boolean> {
  const options = '-c search_path=public,pg_temp';
  const pool = new pg.Pool({ connectionString: database.url, max: 1, options });
  try {
    return !(await verifyBySql(pool)).ok;
  } finally {
    await pool.end();
  }
}

async function isUnready(node: TestStore): Promise<boolean> {
  const facts = await readServingFacts(node.database, 'default');
  const rules = { supportedSchemaVersion: CURRENT_SCHEMA_VERSION, hadState: true };
  return judgeServing(facts, rules).reason !== undefined;
}

async function isRefusedAtStart(node: TestStore): Promise<boolean> {
  const status = await readSchemaStatus(node.database, migrations);
  try {
    assertLedgerMatches(status, migrations);
    return false;
  } catch {
    return true;
  }
}

/** Returns everything that finds the tampering. */
async function findersOf(database: TestDatabase): Promise<Finder[]> {
  const node = await openTestStore(database.url);
  try {
    const { ok } = await verify(node);
    const found: [Finder, boolean][] = [
      ['verify', !ok],
      ['sql', await isFoundBySql(database)],
      ['file', await isFoundInFile(node)],
      ['ready', await isUnready(node)],
      ['start', await isRefusedAtStart(node)],
    ];
    return found.flatMap(([finder, isFound]) => (isFound ? [finder] : []));
  } finally {
    await node.close();
  }
}

/** Runs the tampering as the serving role. PostgreSQL must refuse it for lack of a right. */
async function isRefused(database: TestDatabase, { sql }: Threat): Promise<boolean> {
  const client = new pg.Client({ connectionString: roles.as('serve', database.url) });
  await client.connect();
  try {
    await client.query(`begin; ${sql}; commit`);
    return false;
  } catch (error) {
    return error instanceof pg.DatabaseError && error.code === '42501';
  } finally {
    await client.end();
  }
}

async function tamper(threat: Threat): Promise<Finder[]> {
  const database = await cloneDatabase(source);
  try {
    // The copy stands for the database itself, so a commit does not start a new epoch.
    await database.pool.query('update loom_lineage set lineage = null');
    if (threat.by === 'serve' && (await isRefused(database, threat)))
      return ['refused', ...(await findersOf(database))];
    if (threat.by === 'superuser') await asSuperuser(database.pool, (client) => client.query(threat.sql));
    return await findersOf(database);
  } finally {
    await database.drop();
  }
}

describe('the threat model', () => {
  it('begins with a history in which nothing is wrong', async () => {
    expect(await tamper({ what: 'nothing', by: 'superuser', sql: 'select 1', found: [] })).toEqual([]);
  });

  it.each(sampleByKind(threats, ({ found }) => String(found.length), { purpose: 'threats' }))(
    '$by: $what',
    async (threat) => {
      expect(await tamper(threat)).toEqual(threat.found);
    },
  );

  it('says in its page what finds each', async () => {
    const page = await readFile(new URL('../../../docs/threat-model.md', import.meta.url), 'utf8');
    const rows = [...page.matchAll(/^\| \d+ \| (.+?) \| (.+?) \|$/gm)].map(([, what, found]) => [what, found]);
    const columns: Record<Finder, string> = {
      verify: 'verify',
      sql: 'SQL',
      file: 'against',
      ready: 'ready',
      start: 'start',
      refused: 'refused',
    };
    expect(rows).toEqual(
      threats.map(({ what, by, found }) => [
        by === 'serve' ? `serving role: ${what}` : what,
        found.length === 0 ? 'nothing' : found.map((one) => columns[one]).join(', '),
      ]),
    );
  });
});
