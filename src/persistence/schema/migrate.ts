import type { Pool, PoolClient } from 'pg';
import type { SchemaStatus } from '../../domain/state.ts';
import { LoomError } from '../../errors.ts';
import { inTransaction } from '../connection/transaction.ts';
import type { Migration } from './migrations.ts';
import { readSchemaStatus } from './schema.ts';

/** Serialises migrations of all nodes on one database. The number spells "loom" in ASCII. */
const MIGRATION_LOCK = 0x6c_6f_6f_6d;

/**
 * Brings the database up to the newest of `migrations`: forward only, each file in a transaction of its own that also
 * records it. Any number of nodes may call this at once; a database of a newer schema is left as it is. Answers the
 * names of the files that this call applied. Throws `migration_invalid` when a file that was applied has changed since,
 * or when the database cannot hold LOOM's data.
 */
export async function migrate(pool: Pool, migrations: Migration[]): Promise<string[]> {
  const applied: string[] = [];
  for (const migration of migrations) {
    const done = await inTransaction(pool, 'write', (client) => applyOne(client, migration, migrations));
    if (done) applied.push(migration.name);
  }
  return applied;
}

async function applyOne(client: PoolClient, migration: Migration, migrations: Migration[]): Promise<boolean> {
  await client.query('select pg_advisory_xact_lock($1)', [MIGRATION_LOCK]);
  const status = await readSchemaStatus(client, migrations);
  assertLedgerMatches(status, migrations);
  if ((status.schemaVersion ?? 0) >= migration.version) return false;
  if (migration.version === 1) await assertUtf8(client);
  await client.query(migration.sql);
  await record(client, migration);
  return true;
}

async function record(client: PoolClient, migration: Migration): Promise<void> {
  const { version, name, sha256, kind } = migration;
  await client.query(
    `update loom_meta
        set value = case key
              when 'schema_version' then to_jsonb($1::int)
              when 'schema_compatible_from' then case when $4 then to_jsonb($1::int) else value end
              else value || jsonb_build_object('version', $1::int, 'name', $2::text, 'sha256', $3::text,
                     'applied_at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
            end,
            updated_at = now()
      where key in ('schema_version', 'schema_compatible_from', 'migrations')`,
    [version, name, sha256, kind === 'breaking'],
  );
}

/** A file that was changed after it was applied describes a schema that no database has. */
export function assertLedgerMatches(status: SchemaStatus, migrations: Migration[]): void {
  for (const entry of status.applied) {
    const file = migrations.find((one) => one.version === entry.version);
    if (file === undefined || file.sha256 === entry.sha256) continue;
    throw new LoomError(
      'migration_invalid',
      `Migration ${file.name} differs from the one that was applied on ${entry.applied_at}: a migration is never edited.`,
    );
  }
}

/** The canonical text of jsonb is hashed as UTF-8, and documents hold any character. */
async function assertUtf8(client: PoolClient): Promise<void> {
  const { rows } = await client.query<{ encoding: string }>(
    'select pg_encoding_to_char(encoding) as encoding from pg_database where datname = current_database()',
  );
  const encoding = rows[0]?.encoding;
  if (encoding === 'UTF8') return;
  throw new LoomError('migration_invalid', `The database's encoding must be UTF8, and it is ${encoding ?? 'unknown'}.`);
}
