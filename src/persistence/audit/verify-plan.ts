import { limits } from '../../limits.ts';
import type { Queries } from '../connection/connection.ts';

/**
 * Sets the planner until the transaction ends, so that PostgreSQL reads the tables of a state with several workers. It
 * knows the cost of neither digests nor compressed values, and would expect that workers do not pay. If the server has
 * no workers to spare, the same statements run in one process.
 */
export async function planInParallel(queries: Queries): Promise<void> {
  const kibibytes = limits.verifyWorkMemoryBytes / 1024;
  await queries.execute(
    `select set_config('jit', 'off', true),
            set_config('parallel_setup_cost', '0', true),
            set_config('parallel_tuple_cost', '0.001', true),
            set_config('min_parallel_table_scan_size', $3::text, true),
            set_config('min_parallel_index_scan_size', $3::text, true),
            set_config('max_parallel_workers_per_gather',
                       greatest(current_setting('max_parallel_workers_per_gather')::int, $1)::text, true),
            set_config('work_mem', greatest(pg_size_bytes(current_setting('work_mem')) / 1024, $2) || 'kB', true)`,
    [limits.verifyWorkers, kibibytes, `${limits.minParallelVerifyBytes / 1024}kB`],
  );
}

/**
 * Allows or forbids joins other than by an index, until the transaction ends. A hash join of whole entries would write
 * all of a large trail to temporary files.
 */
export async function joinByIndexOnly(queries: Queries, isOnly: boolean): Promise<void> {
  const others = isOnly ? 'off' : 'on';
  await queries.execute(`select set_config('enable_hashjoin', $1, true), set_config('enable_mergejoin', $1, true)`, [
    others,
  ]);
}
