import { LoomError } from '../../errors.ts';
import type { Queries } from '../connection/connection.ts';
import { rfc3339 } from '../connection/timestamp.ts';

/**
 * Separates the advisory locks of restores from all others. The seeds spell "rest" and "scra" in ASCII. Scratch states
 * have their own seed, so that the key of a scratch state cannot block the restore of another state.
 */
const SEEDS = { state: 0x72_65_73_74, scratch: 0x73_63_72_61 };

/**
 * Acquires the lock for restores and undos of a state, across all nodes, until the transaction ends. Acquiring it twice
 * in one transaction is harmless. Throws `restore_in_progress` with the time at which the holder began.
 */
export async function lockRestores(
  queries: Queries,
  stateKey: string,
  kind: keyof typeof SEEDS = 'state',
): Promise<void> {
  const row = await queries.firstRow<{ locked: boolean }>(
    'select pg_try_advisory_xact_lock(hashtextextended($1, $2)) as locked',
    [stateKey, SEEDS[kind]],
  );
  if (row?.locked === true) return;
  const since = await readHolderSince(queries, stateKey, SEEDS[kind]);
  const runs = since === null ? 'is running' : `has been running since ${since}`;
  throw new LoomError('restore_in_progress', `Another restore or undo of state ${JSON.stringify(stateKey)} ${runs}.`, {
    retryAfterSeconds: 5,
    ...(since === null ? {} : { since }),
  });
}

/** Reads when the holder's transaction began. Returns null if it has just ended, or if this role may not see it. */
async function readHolderSince(queries: Queries, stateKey: string, seed: number): Promise<string | null> {
  // The page on pg_locks in PostgreSQL's manual describes how a 64-bit advisory lock appears there.
  const row = await queries.firstRow<{ since: string | null }>(
    `select ${rfc3339('min(a.xact_start)')} as since
       from (select hashtextextended($1, $2) as key) k
       join pg_locks l on l.locktype = 'advisory' and l.granted and l.objsubid = 1
        and l.classid::bigint = (k.key >> 32) & 4294967295 and l.objid::bigint = k.key & 4294967295
        and l.database = (select oid from pg_database where datname = current_database())
       join pg_stat_activity a on a.pid = l.pid`,
    [stateKey, seed],
  );
  return row?.since ?? null;
}
