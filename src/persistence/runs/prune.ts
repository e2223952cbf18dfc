import { limits } from '../../limits.ts';
import { SCHEMA_SERVES } from '../schema/serves.ts';
import type { RunScope } from './scope.ts';

/**
 * Removes the rows of old slots that own no stored backup, and adds them to the totals in the same statement. The rows
 * of a slot stay together, because they say how many attempts it had. The last slots of each kind stay whatever their
 * age: they say that the slot was run.
 */
export async function pruneRuns({ database, stateKey }: RunScope): Promise<void> {
  await database.execute(
    `with kinds as materialized (
       select kind, (
         select slot from (select distinct r.slot from loom_backup_run r where r.state_key = $1 and r.kind = k.kind) s
          order by slot desc offset $2 limit 1) as upto
         from unnest(array['scheduled', 'manual', 'drill']) as k (kind)
     ), old as (
       select r.id from loom_backup_run r join kinds on r.kind = kinds.kind and r.slot <= kinds.upto
        where r.state_key = $1 and ${SCHEMA_SERVES} and not exists (
          select from loom_backup_run s
           where s.state_key = $1 and s.kind = r.kind and s.slot = r.slot
             and (s.outcome = 'running' or s.retry_at is not null
               or s.ended_at > clock_timestamp() - $3::double precision * interval '1 millisecond'
               or s.kind <> 'drill' and s.name is not null and s.deleted_at is null))
        for update of r skip locked
     ), pruned as (
       delete from loom_backup_run r using old where r.state_key = $1 and r.id = old.id returning r.kind, r.outcome
     )
     insert into loom_backup_run_total as t (state_key, kind, outcome, runs)
     select $1, kind, outcome, count(*) from pruned group by kind, outcome order by kind, outcome
     on conflict (state_key, kind, outcome) do update set runs = t.runs + excluded.runs`,
    [stateKey, limits.maxKeptSlots, limits.minKeptRunMs],
  );
}
