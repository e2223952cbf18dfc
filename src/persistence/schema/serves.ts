import { LoomError } from '../../errors.ts';
import type { Queries } from '../connection/connection.ts';
import { CURRENT_SCHEMA_VERSION } from './schema.ts';

/**
 * Tests in SQL whether this node may write. Every writing transaction checks it, because another node may have applied
 * a breaking migration. `loom_commit` makes the same test itself, from the version that the node sends.
 */
export const SCHEMA_SERVES = `exists (
  select from loom_meta where key = 'schema_compatible_from' and value::int <= ${CURRENT_SCHEMA_VERSION})`;

/** Throws `schema_ahead` unless `SCHEMA_SERVES` is true. */
export async function assertSchemaServes(queries: Queries): Promise<void> {
  const row = await queries.firstRow<{ serves: boolean }>(`select ${SCHEMA_SERVES} as serves`);
  if (row?.serves !== true) throw schemaAhead();
}

export function schemaAhead(): LoomError {
  return new LoomError(
    'schema_ahead',
    'The database has a newer schema, so this node cannot write to it. Deploy a newer LOOM.',
  );
}

/**
 * Compares the schema of a database with the `supported` version of a node. A newer schema serves the node if
 * `compatibleFrom` is at most `supported`. An older schema never does.
 */
export function judgeSchema(
  schemaVersion: number | null,
  compatibleFrom: number | null,
  supported: number,
): 'ok' | 'behind' | 'ahead' {
  if (schemaVersion === null || schemaVersion < supported) return 'behind';
  if (compatibleFrom !== null) return compatibleFrom > supported ? 'ahead' : 'ok';
  return schemaVersion > supported ? 'ahead' : 'ok';
}
