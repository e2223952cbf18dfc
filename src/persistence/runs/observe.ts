import type { RunObservation } from '../../domain/backup-run.ts';
import { limits } from '../../limits.ts';
import { sqlStateOf } from '../connection/faults.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import { IS_STORED } from './catalogue.ts';
import { RUN_COLUMNS } from './runs.ts';
import type { RunScope } from './scope.ts';

/**
 * Returns the values for status, metrics and alarms. The last success is the end of the last run that wrote a backup
 * and proved it. The last proven backup is the newest one that could be restored now, as of the time of its snapshot: a
 * drill of an old backup does not make it newer. All are the last by their order, because a clock may go back.
 */
export async function observeRuns({ database, stateKey }: RunScope): Promise<RunObservation> {
  try {
    const row = await database.firstRow<RunObservation>(OBSERVE, [stateKey, limits.maxShownRuns]);
    if (row !== undefined) return row;
  } catch (error) {
    // The node is newer than the schema, and an operator has not migrated yet. Readiness reports it.
    if (sqlStateOf(error) !== UNDEFINED_TABLE) throw error;
  }
  return nothing;
}

const UNDEFINED_TABLE = '42P01';

const nothing: RunObservation = {
  lastSuccessAt: null,
  lastProvenAt: null,
  lastRestoreSeconds: null,
  lastBytes: null,
  faultyBackups: 0,
  lastFailure: null,
  running: [],
  counts: [],
};

/** Selects the last failed run of one class, if none of its class has succeeded after it. */
const lastFailure = (ofClass: string): string => `(
  select * from loom_backup_run f
   where f.state_key = $1 and f.outcome in ('failed', 'abandoned') and f.${ofClass}
     and f.ordinal > coalesce((
       select max(ordinal) from loom_backup_run
        where state_key = $1 and outcome in ('proven', 'verified') and ${ofClass}), 0)
   order by ordinal desc limit 1)`;

const OBSERVE = `
  select ${rfc3339('success.ended_at')} as "lastSuccessAt", success.bytes as "lastBytes",
         (select ${rfc3339('taken_at')} from loom_backup_run
           where state_key = $1 and kind <> 'drill' and name is not null and deleted_at is null
             and proven_at is not null and deletion_begun_at is null
           order by ordinal desc limit 1) as "lastProvenAt",
         (select restore_seconds from loom_backup_run
           where state_key = $1 and outcome = 'proven' order by ordinal desc limit 1) as "lastRestoreSeconds",
         (select count(*)::int from loom_backup_run
           where state_key = $1 and ${IS_STORED} and fault_at is not null) as "faultyBackups",
         (select to_json(f) from (
           select ${RUN_COLUMNS} from (${lastFailure(`kind <> 'drill'`)} union all ${lastFailure(`kind = 'drill'`)}) e
            order by ordinal desc limit 1) f) as "lastFailure",
         (select coalesce(json_agg(r), '[]') from (
           select ${RUN_COLUMNS} from loom_backup_run
            where state_key = $1 and outcome = 'running' order by ordinal desc limit $2) r) as running,
         (select coalesce(json_agg(json_build_object('kind', kind, 'outcome', outcome, 'count', runs) order by kind, outcome), '[]')
            from (select kind, outcome, sum(runs)::bigint as runs
                    from (select kind, outcome, count(*) as runs from loom_backup_run
                           where state_key = $1 and outcome <> 'running' group by kind, outcome
                           union all
                          select kind, outcome, runs from loom_backup_run_total where state_key = $1) both_tables
                   group by kind, outcome) c) as counts
    from (values (1)) as one left join lateral (
      select ended_at, bytes from loom_backup_run
       where state_key = $1 and kind <> 'drill' and outcome = 'proven' order by ordinal desc limit 1) success on true`;
