import { randomUUID } from 'node:crypto';
import type { StoreClaim } from '../../domain/object-store.ts';
import { limits } from '../../limits.ts';
import { assertSchemaServes, SCHEMA_SERVES, schemaAhead } from '../schema/serves.ts';
import { afterMs, type RunScope } from './scope.ts';

/** Returns SQL that tests whether a time is at most so many milliseconds ago. One in the future is not. */
function isWithin(column: string, ms: string): string {
  return `coalesce(${column} <= clock_timestamp() and ${afterMs(`-${ms}`)} < ${column}, false)`;
}

/**
 * Reads the claim of this database to the store. Makes a new one if there is none, or if the claim is that of another
 * store, of another copy of the database, or from before a start of its server. A snapshot of a disk that is started
 * as a second server differs from the first one only by that start.
 */
export async function readStoreClaim(
  { database, stateKey }: RunScope,
  storeId: string,
  {
    restartMs = limits.minRestartClaimMs,
    copyMs = limits.minCopyClaimMs,
  }: { restartMs?: number; copyMs?: number } = {},
): Promise<StoreClaim> {
  await database.execute(RENEW, [stateKey, randomUUID(), storeId, copyMs, restartMs, limits.maxEarlierClaims]);
  const claim = await database.firstRow<StoreClaim>(READ, [stateKey, limits.sharedStoreMs]);
  if (claim !== undefined) return claim;
  await assertSchemaServes(database);
  throw schemaAhead();
}

/** A claim that waits for a copy keeps its time when the server starts again. */
const RENEW = `
  insert into loom_backup_claim as c (state_key, id, store_id, lineage, server_started_at, upto_ordinal, wait_ms, claimed_at)
  select $1, $2, $3, coalesce(loom_current_lineage(), ''), pg_postmaster_start_time(),
         (select coalesce(max(ordinal), 0) from loom_backup_run
           where state_key = $1 and kind <> 'drill' and name is not null),
         $4, clock_timestamp()
   where ${SCHEMA_SERVES}
  on conflict (state_key) do update
    set id = excluded.id, earlier = (array_prepend(c.id, c.earlier))[1:$6], store_id = excluded.store_id,
        lineage = coalesce(nullif(excluded.lineage, ''), c.lineage), server_started_at = excluded.server_started_at,
        upto_ordinal = excluded.upto_ordinal, claimed_at = excluded.claimed_at, placed_at = null, settled_at = null,
        shared_at = case when c.store_id = excluded.store_id then c.shared_at end,
        wait_ms = case when c.store_id <> excluded.store_id or excluded.lineage not in (c.lineage, '') then excluded.wait_ms
                       when c.settled_at is not null then $5 else c.wait_ms end
    where c.store_id <> excluded.store_id or excluded.lineage not in (c.lineage, '')
       or c.server_started_at <> excluded.server_started_at`;

const READ = `
  select id::text as id, earlier::text[] as earlier, placed_at is not null as "isPlaced",
         coalesce(placed_at <= ${afterMs('-wait_ms')}, false) as "isDue", settled_at is not null as "isSettled",
         ${isWithin('shared_at', '$2')} as "isShared",
         ${isWithin('shared_at', '$2')} or settled_at is null and ${isWithin('claimed_at', '$2')} as "mayBeShared"
    from loom_backup_claim where state_key = $1`;

export async function recordClaimPlaced({ database, stateKey }: RunScope, id: string): Promise<void> {
  await database.execute(
    `update loom_backup_claim set placed_at = clock_timestamp()
      where state_key = $1 and id = $2 and placed_at is null and ${SCHEMA_SERVES}`,
    [stateKey, id],
  );
}

/** The new id has a new object: a node that has seen the removed one absent must not take the new one for it. */
export async function replaceClaim({ database, stateKey }: RunScope, id: string): Promise<boolean> {
  const changed = await database.execute(
    `update loom_backup_claim
        set id = $3, earlier = (array_prepend(id, earlier))[1:$4], placed_at = null, shared_at = clock_timestamp()
      where state_key = $1 and id = $2 and placed_at is not null and settled_at is null and ${SCHEMA_SERVES}`,
    [stateKey, id, randomUUID(), limits.maxEarlierClaims],
  );
  return changed === 1;
}

export async function settleClaim({ database, stateKey }: RunScope, id: string): Promise<boolean> {
  const changed = await database.execute(
    `update loom_backup_claim set settled_at = coalesce(settled_at, clock_timestamp())
      where state_key = $1 and id = $2 and ${SCHEMA_SERVES}`,
    [stateKey, id],
  );
  return changed === 1;
}

export async function noteSharedStore({ database, stateKey }: RunScope): Promise<void> {
  await database.execute(
    `update loom_backup_claim set shared_at = clock_timestamp() where state_key = $1 and ${SCHEMA_SERVES}`,
    [stateKey],
  );
}
