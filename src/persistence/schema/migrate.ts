import type { SchemaStatus } from '../../domain/state.ts';
import { LoomError } from '../../errors.ts';
import type { Connection, Queries } from '../connection/connection.ts';
import type { Database } from '../connection/database.ts';
import { faultOf, originalOf, sqlStateOf } from '../connection/faults.ts';
import { boundTransaction } from '../connection/session-bounds.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import type { Migration } from './migrations.ts';
import { readSchemaStatus } from './schema.ts';

/** Identifies the advisory lock that serializes the migrations of all nodes. It spells "loom" in ASCII. */
const MIGRATION_LOCK = 0x6c_6f_6f_6d;

/**
 * Applies all pending `migrations`, forward only. Each file runs in its own transaction, which also records it. Any
 * number of nodes may call this at once. A newer schema stays unchanged. Returns the names of the files that this call
 * applied. Throws `migration_invalid` if an applied file has changed since, or if the database's encoding is not UTF8.
 * If the role lacks the right to migrate, the error says which.
 */
export async function migrate(database: Database, migrations: Migration[]): Promise<string[]> {
  const applied: string[] = [];
  for (const migration of migrations) {
    const apply = (connection: Connection) => applyOne(connection, migration, migrations);
    // Streams of a running node must not hold a migration back.
    const done = await database.transaction('write', apply, { lane: 'read' }).catch(async (error: unknown) => {
      throw (await explainRefusal(database, error)) ?? error;
    });
    if (done) applied.push(migration.name);
  }
  return applied;
}

const NO_SCHEMA = '3F000';

/** Returns an error that names the right which the role lacks, or undefined if the cause is another. */
async function explainRefusal(queries: Queries, error: unknown): Promise<LoomError | undefined> {
  if (faultOf(error) !== 'forbidden' && sqlStateOf(error) !== NO_SCHEMA) return undefined;
  const row = await queries.firstRow<{ target: string | null; role: string; may_create: boolean | null }>(
    `select quote_ident(current_schema()) as target, quote_ident(current_user) as role,
            has_schema_privilege(current_schema(), 'create') as may_create`,
  );
  if (row === undefined || row.may_create === true) return undefined;
  const { target, role } = row;
  const detail =
    target === null
      ? `No schema of the search path exists, or the database role lacks USAGE on all of them. Run as the owner: GRANT USAGE, CREATE ON SCHEMA public TO ${role};`
      : `The database role lacks CREATE on schema ${target}, so LOOM cannot create its tables. Run as the owner: GRANT CREATE ON SCHEMA ${target} TO ${role}; or migrate as another role.`;
  return new LoomError('database_unavailable', detail, { cause: originalOf(error) });
}

async function applyOne(connection: Connection, migration: Migration, migrations: Migration[]): Promise<boolean> {
  await boundTransaction(connection);
  await connection.execute('select pg_advisory_xact_lock($1)', [MIGRATION_LOCK]);
  const status = await readSchemaStatus(connection, migrations);
  assertLedgerMatches(status, migrations);
  if ((status.schemaVersion ?? 0) >= migration.version) return false;
  if (migration.version === 1) await assertUtf8(connection);
  await connection.execute(migration.sql);
  await record(connection, migration);
  return true;
}

async function record(queries: Queries, migration: Migration): Promise<void> {
  const { version, name, sha256, kind } = migration;
  await queries.execute(
    `update loom_meta
        set value = case key
              when 'schema_version' then to_jsonb($1::int)
              when 'schema_compatible_from' then case when $4 then to_jsonb($1::int) else value end
              else value || jsonb_build_object('version', $1::int, 'name', $2::text, 'sha256', $3::text,
                     'applied_at', ${rfc3339('now()')})
            end,
            updated_at = now()
      where key in ('schema_version', 'schema_compatible_from', 'migrations')`,
    [version, name, sha256, kind === 'breaking'],
  );
}

/** Throws `migration_invalid` if an applied file has changed: it no longer describes the database. */
export function assertLedgerMatches(status: SchemaStatus, migrations: Migration[]): void {
  for (const entry of status.applied) {
    const file = migrations.find((one) => one.version === entry.version);
    if (file === undefined || file.sha256 === entry.sha256) continue;
    throw new LoomError(
      'migration_invalid',
      `Migration ${file.name} differs from the file that was applied on ${entry.applied_at}. Restore the file: an applied migration cannot change.`,
    );
  }
}

/** Throws `migration_invalid` unless the encoding is UTF8, in which LOOM hashes text and can store any character. */
async function assertUtf8(queries: Queries): Promise<void> {
  const row = await queries.firstRow<{ encoding: string }>(
    'select pg_encoding_to_char(encoding) as encoding from pg_database where datname = current_database()',
  );
  if (row?.encoding === 'UTF8') return;
  throw new LoomError(
    'migration_invalid',
    `The database has the encoding ${row?.encoding ?? 'unknown'}, and LOOM needs UTF8. Create a database with the encoding UTF8.`,
  );
}
