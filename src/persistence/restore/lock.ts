import type { PoolClient } from 'pg';
import { LoomError } from '../../errors.ts';
import { queryRows } from '../connection/query.ts';
import { rfc3339 } from '../connection/timestamp.ts';

/**
 * Keep the advisory locks of restores apart from all others; they spell "rest" and "scra" in ASCII. One for scratch states of its own:
 * who makes up the name of one must not be able to hold up another state.
 */
const SEEDS = { state: 0x72_65_73_74, scratch: 0x73_63_72_61 };

/**
 * One restore or undo at a time for a state, over all nodes, until the transaction ends. Throws `restore_in_progress`, naming when
 * the one that holds the lock began.
 */
export async function lockRestores(
  client: PoolClient,
  stateKey: string,
  kind: keyof typeof SEEDS = 'state',
): Promise<void> {
  const { rows } = await client.query<{ locked: boolean }>(
    'select pg_try_advisory_xact_lock(hashtextextended($1, $2)) as locked',
    [stateKey, SEEDS[kind]],
  );
  if (rows[0]?.locked === true) return;
  const since = await holderSince(client, stateKey, SEEDS[kind]);
  const when = since === null ? '' : ` since ${since}`;
  throw new LoomError(
    'restore_in_progress',
    `Another restore or undo of state ${JSON.stringify(stateKey)} is under way${when}.`,
    { retryAfterSeconds: 5, ...(since === null ? {} : { since }) },
  );
}

/** When the transaction began that holds the lock. Null when it has just ended, or when this role may not see it. */
async function holderSince(client: PoolClient, stateKey: string, seed: number): Promise<string | null> {
  // How a 64-bit advisory lock stands in pg_locks: PostgreSQL's documentation of that view.
  const rows = await queryRows<{ since: string | null }>(
    client,
    `select ${rfc3339('min(a.xact_start)')} as since
       from (select hashtextextended($1, $2) as key) k
       join pg_locks l on l.locktype = 'advisory' and l.granted and l.objsubid = 1
        and l.classid::bigint = (k.key >> 32) & 4294967295 and l.objid::bigint = k.key & 4294967295
        and l.database = (select oid from pg_database where datname = current_database())
       join pg_stat_activity a on a.pid = l.pid`,
    [stateKey, seed],
  );
  return rows[0]?.since ?? null;
}
