import type { Pool, PoolClient } from 'pg';
import type { SchemaStatus } from '../../domain/state.ts';
import { queryRows } from '../connection/query.ts';
import type { Migration } from './migrations.ts';

/** The schema that this node reads and writes: the version of the newest file in `migrations/`, and a test holds it to that. */
export const CURRENT_SCHEMA_VERSION = 2;

interface SchemaRow {
  schema_version: number | null;
  compatible_from: number | null;
  instance_id: string | null;
  applied: SchemaStatus['applied'] | null;
}

/**
 * What the database says of its schema, and which of `migrations` it does not have yet. A database without
 * `loom_meta` is not initialized; that is no error.
 */
export async function readSchemaStatus(client: Pool | PoolClient, migrations: Migration[]): Promise<SchemaStatus> {
  const existing = await queryRows<{ found: boolean }>(client, `select to_regclass('loom_meta') is not null as found`);
  const row = existing[0]?.found === true ? await readMeta(client) : undefined;
  const applied = row?.applied ?? [];
  const known = new Set(applied.map((one) => one.version));
  return {
    initialized: (row?.schema_version ?? 0) > 0,
    schemaVersion: row?.schema_version ?? null,
    compatibleFrom: row?.compatible_from ?? null,
    instanceId: row?.instance_id ?? null,
    applied,
    pending: migrations.filter((one) => !known.has(one.version)).map(({ version, name }) => ({ version, name })),
  };
}

async function readMeta(client: Pool | PoolClient): Promise<SchemaRow | undefined> {
  const rows = await queryRows<SchemaRow>(
    client,
    `select (select value::int from loom_meta where key = 'schema_version') as schema_version,
            (select value::int from loom_meta where key = 'schema_compatible_from') as compatible_from,
            (select value #>> '{}' from loom_meta where key = 'instance_id') as instance_id,
            (select value from loom_meta where key = 'migrations') as applied`,
  );
  return rows[0];
}
