import { limits } from '../../limits.ts';
import type { Connection, Queries } from '../connection/connection.ts';

/**
 * Sets the planner until the transaction ends, so that PostgreSQL reads the tables of a state with several workers. It
 * knows the cost of neither digests nor compressed values, and would expect that workers do not pay. If the server has
 * no workers to spare, the same statements run in one process, as they do if the connection must yield. Without
 * statistics of a new state, it would expect one row, and join rows in nested loops. Where a statement needs such a
 * loop, it has no other choice.
 */
export async function planReads(connection: Connection): Promise<void> {
  const kibibytes = limits.verifyWorkMemoryBytes / 1024;
  await connection.execute(
    `select set_config('jit', 'off', true),
            set_config('enable_nestloop', 'off', true),
            set_config('parallel_setup_cost', '0', true),
            set_config('parallel_tuple_cost', '0.001', true),
            set_config('min_parallel_table_scan_size', $3::text, true),
            set_config('min_parallel_index_scan_size', $3::text, true),
            set_config('max_parallel_workers_per_gather',
                       case when $1 > 0 then greatest(current_setting('max_parallel_workers_per_gather')::int, $1) else 0 end::text,
                       true),
            set_config('work_mem', greatest(pg_size_bytes(current_setting('work_mem')) / 1024, $2) || 'kB', true)`,
    [(await connection.mustYield()) ? 0 : limits.verifyWorkers, kibibytes, `${limits.minParallelVerifyBytes / 1024}kB`],
  );
}

/** Allows joins by an index only, or only others, until the transaction ends. */
export async function joinByIndex(queries: Queries, byIndex: boolean): Promise<void> {
  const [index, others] = byIndex ? ['on', 'off'] : ['off', 'on'];
  await queries.execute(
    `select set_config('enable_nestloop', $1, true), set_config('enable_hashjoin', $2, true),
            set_config('enable_mergejoin', $2, true)`,
    [index, others],
  );
}

/** An estimate of fewer entries than this share of the trail comes from missing statistics. */
const KNOWN_SHARE = 0.1;

/** A hash join reads each row twice. For wider rows, that costs more than looking up the ones before. */
const MAX_HASHED_ROW_BYTES = 1_000;

interface ExplainedRow {
  'QUERY PLAN': [{ Plan: { 'Plan Rows': number; 'Plan Width': number } }];
}

/**
 * Chooses how each of `entries` entries is joined to the one before, of which the join keeps `bytesOfLink`. A hash join
 * of small rows is faster, but it would write what does not fit into memory to temporary files, with the whole entries.
 * Then PostgreSQL looks up the one before by its key. If it knows nothing of the state, it expects one row, and would
 * take any index, in quadratic time: then it joins by hash.
 */
export async function planLinks(
  queries: Queries,
  stateKey: string,
  { entries, bytesOfLink }: { entries: number; bytesOfLink: number },
): Promise<void> {
  const row = await queries.firstRow<ExplainedRow>(
    'explain (format json) select * from loom_audit where state_key = $1',
    [stateKey],
  );
  const { 'Plan Rows': expected = 0, 'Plan Width': width = 0 } = row?.['QUERY PLAN'][0].Plan ?? {};
  const isSmall = width <= MAX_HASHED_ROW_BYTES && entries * bytesOfLink <= limits.verifyWorkMemoryBytes;
  await joinByIndex(queries, !isSmall && expected >= KNOWN_SHARE * entries);
}
