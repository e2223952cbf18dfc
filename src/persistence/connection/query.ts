import type { Pool, PoolClient, QueryConfig, QueryResultRow } from 'pg';
import { limits } from '../../limits.ts';
import { toLoomError } from './faults.ts';

/** pg knows `query_timeout` for one query, its types do not: after so long the query rejects and its connection is closed. */
export interface TimedQuery extends QueryConfig {
  query_timeout: number;
}

/** The rows of a short statement. Rejects with a LoomError; a database that does not answer in time is unavailable. */
export async function queryRows<Row extends QueryResultRow>(
  client: Pool | PoolClient,
  text: string,
  values: unknown[] = [],
): Promise<Row[]> {
  const query: TimedQuery = { text, values, query_timeout: limits.queryTimeoutMs };
  try {
    return (await client.query<Row>(query)).rows;
  } catch (error) {
    throw toLoomError(error);
  }
}
