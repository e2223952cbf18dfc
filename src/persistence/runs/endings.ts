import type { ClaimedRun } from '../../domain/backup-run.ts';
import { limits } from '../../limits.ts';
import { IS_MINE } from './running.ts';
import type { RunScope } from './scope.ts';

/** Selects the row of the backup `b` that the drill `run` reads. */
const OF_DRILL = `run.kind = 'drill' and b.kind <> 'drill' and b.name = run.name`;

/** Ends the run as proven, and dates the proof of its backup. */
export async function recordProven(
  { database, stateKey, node }: RunScope,
  run: ClaimedRun,
  { restoreSeconds }: { restoreSeconds: number },
): Promise<boolean> {
  const row = await database.firstRow<{ ended: boolean }>(
    `with run as (
       update loom_backup_run
          set outcome = 'proven', ended_at = clock_timestamp(), restore_seconds = $4,
              verified_at = case when kind <> 'drill' then clock_timestamp() end,
              proven_at = case when kind <> 'drill' then clock_timestamp() end
        where state_key = $1 and ${IS_MINE} and name is not null and (kind = 'drill' or bytes is not null)
       returning kind, name
     ), backup as (
       update loom_backup_run b
          set verified_at = clock_timestamp(), proven_at = clock_timestamp(), restore_seconds = $4,
              fault_code = null, fault_detail = null, fault_at = null, drill_until = null
         from run where b.state_key = $1 and ${OF_DRILL}
     )
     select exists (select from run) as ended`,
    [stateKey, run.id, node, restoreSeconds],
  );
  return row?.ended === true;
}

/** Ends a drill that compared only the stored bytes. The fault of an earlier proof stays: only a proof removes it. */
export async function recordVerified(
  { database, stateKey, node }: RunScope,
  run: ClaimedRun,
  detail: string,
): Promise<boolean> {
  const row = await database.firstRow<{ ended: boolean }>(
    `with run as (
       update loom_backup_run set outcome = 'verified', ended_at = clock_timestamp(), detail = $4
        where state_key = $1 and ${IS_MINE} and kind = 'drill' returning kind, name
     ), backup as (
       update loom_backup_run b set verified_at = clock_timestamp(), drill_until = null from run where b.state_key = $1 and ${OF_DRILL}
     )
     select exists (select from run) as ended`,
    [stateKey, run.id, node, detail],
  );
  return row?.ended === true;
}

/**
 * Ends the run as failed, and sets when its next attempt is due, if there is one to come. With `withdraws`, also
 * withdraws the proof of its backup, and notes the fault there.
 */
export async function recordFailed(
  { database, stateKey, node, backoffMs }: RunScope,
  run: ClaimedRun,
  { code, detail, withdraws }: { code: string; detail: string; withdraws: boolean },
): Promise<boolean> {
  const row = await database.firstRow<{ ended: boolean }>(
    `with earlier as (
       select count(*) as failed from loom_backup_run e
        where e.state_key = $1 and e.outcome = 'failed'
          and (e.kind, e.slot) = (select kind, slot from loom_backup_run where state_key = $1 and id = $2)
     ), run as (
       update loom_backup_run
          set outcome = 'failed', ended_at = clock_timestamp(), code = $4, detail = $5,
              retry_at = case when earlier.failed + 1 < $7
                then clock_timestamp() + $8::double precision * $9 ^ earlier.failed * interval '1 millisecond' end,
              fault_code = case when $6 and kind <> 'drill' then $4 end,
              fault_detail = case when $6 and kind <> 'drill' then $5 end,
              fault_at = case when $6 and kind <> 'drill' then clock_timestamp() end
         from earlier
        where state_key = $1 and ${IS_MINE} returning kind, name
     ), backup as (
       update loom_backup_run b
          set drill_until = null,
              proven_at = case when not $6 then b.proven_at end,
              fault_code = case when $6 then $4 else b.fault_code end,
              fault_detail = case when $6 then $5 else b.fault_detail end,
              fault_at = case when $6 then clock_timestamp() else b.fault_at end
         from run where b.state_key = $1 and ${OF_DRILL}
     )
     select exists (select from run) as ended`,
    [stateKey, run.id, node, code, detail, withdraws, limits.maxFailedAttempts, backoffMs, limits.retryBackoffFactor],
  );
  return row?.ended === true;
}
