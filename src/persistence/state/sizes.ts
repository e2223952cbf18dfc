import type { StoreSizes } from '../../domain/store.ts';
import type { Queries } from '../connection/connection.ts';
import { requireState } from './state-row.ts';

/** Reads the size of the database and of the state's undo records. */
export async function readSizes(queries: Queries, stateKey: string): Promise<StoreSizes> {
  const row = await queries.firstRow<StoreSizes>(
    `select pg_database_size(current_database()) as "databaseBytes",
            (select coalesce(sum(bytes), 0)::int8 from loom_snapshot where state_key = $1) as "undoBytes"`,
    [stateKey],
  );
  return requireState(row);
}
