// persistence/schema/ reads the version of the schema and applies the migrations. It imports domain, errors, limits,
// log and, of persistence, connection/ and state/. It must not know the content of the tables.

import type { SchemaStatus } from '../../domain/state.ts';
import type { Queries } from '../connection/connection.ts';
import type { Migration } from './migrations.ts';

/** Identifies the schema that this node reads and writes. A test compares it with the newest file in `migrations/`. */
export const CURRENT_SCHEMA_VERSION = 7;

interface SchemaRow {
  schema_version: number | null;
  compatible_from: number | null;
  instance_id: string | null;
  applied: SchemaStatus['applied'] | null;
}

/** Returns the schema of the database, which may be empty, and which of `migrations` are pending. */
export async function readSchemaStatus(queries: Queries, migrations: Migration[]): Promise<SchemaStatus> {
  const table = await queries.firstRow<{ found: boolean }>(`select to_regclass('loom_meta') is not null as found`);
  const row = table?.found === true ? await queries.firstRow<SchemaRow>(READ_META) : undefined;
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

/** Returns the id that the database got with its schema. */
export async function readInstanceId(queries: Queries): Promise<string | null> {
  const row = await queries.firstRow<{ instance_id: string | null }>(
    `select value #>> '{}' as instance_id from loom_meta where key = 'instance_id'`,
  );
  return row?.instance_id ?? null;
}

const READ_META = `
  select (select value::int from loom_meta where key = 'schema_version') as schema_version,
         (select value::int from loom_meta where key = 'schema_compatible_from') as compatible_from,
         (select value #>> '{}' from loom_meta where key = 'instance_id') as instance_id,
         (select value from loom_meta where key = 'migrations') as applied`;
