import type { LockHolder, StateLocks } from '../../domain/state.ts';
import { LoomError } from '../../errors.ts';
import type { Queries } from '../connection/connection.ts';
import { rfc3339 } from '../connection/timestamp.ts';

/**
 * Separates the advisory locks of restores from all others. The seeds spell "rest" and "scra" in ASCII. Scratch states
 * have their own seed, so that the key of a scratch state cannot block the restore of another state.
 */
const SEEDS = { state: 0x72_65_73_74, scratch: 0x73_63_72_61 };

/**
 * Acquires the lock for restores, undos and reindexes of a state, across all nodes, until the transaction ends.
 * Acquiring it twice in one transaction is harmless. Throws `restore_in_progress` with the time at which the holder
 * began.
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
  throw new LoomError(
    'restore_in_progress',
    `Another restore, undo or reindex of state ${JSON.stringify(stateKey)} ${runs}.`,
    { retryAfterSeconds: 5, ...(since === null ? {} : { since }) },
  );
}

/** Reads when the holder's transaction began. Returns null if it has just ended, or if this role may not see it. */
async function readHolderSince(queries: Queries, stateKey: string, seed: number): Promise<string | null> {
  const row = await queries.firstRow<{ since: string | null }>(
    `select ${rfc3339('min(a.xact_start)')} as since from (${ADVISORY}) l join pg_stat_activity a using (pid)`,
    [stateKey, seed],
  );
  return row?.since ?? null;
}

/**
 * Selects the processes with the advisory lock of the key $1 and the seed $2. The page on pg_locks in PostgreSQL's
 * manual describes how a 64-bit advisory lock appears there.
 */
const ADVISORY = `select l.pid
  from (select hashtextextended($1, $2) as key) k
  join pg_locks l on l.locktype = 'advisory' and l.granted and l.objsubid = 1
   and l.classid::bigint = (k.key >> 32) & 4294967295 and l.objid::bigint = k.key & 4294967295
   and l.database = (select oid from pg_database where datname = current_database())`;

/** Selects the process that has locked the state row. PostgreSQL stores its transaction id in the row itself. */
const STATE_ROW = `select l.pid
  from loom_state s join pg_locks l on l.locktype = 'transactionid' and l.granted and l.transactionid = s.xmax
 where s.state_key = $1`;

/** Reads the transactions that hold the row of the state, and the lock for restores, undos and reindexes of it. */
export async function readLocks(queries: Queries, stateKey: string): Promise<StateLocks> {
  const rows = await queries.rows<LockHolder & { lock: keyof StateLocks }>(
    `select distinct on (lock) lock, pid, a.application_name, ${rfc3339('a.xact_start')} as since
       from (select 'state' as lock, pid from (${STATE_ROW}) s union all select 'restore', pid from (${ADVISORY}) r) held
       join pg_stat_activity a using (pid)
      order by lock, a.xact_start`,
    [stateKey, SEEDS.state],
  );
  const locks: StateLocks = { state: null, restore: null };
  for (const { lock, ...holder } of rows) locks[lock] = holder;
  return locks;
}
