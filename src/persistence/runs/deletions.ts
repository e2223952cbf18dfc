import { SCHEMA_SERVES } from '../schema/serves.ts';
import { IS_STORED } from './catalogue.ts';
import { isValidUntil, type RunScope } from './scope.ts';

/**
 * Marks a backup for deletion unless a rule forbids it: a newer proven backup must exist, and nobody may be writing or
 * proving this one. An unproven backup may also go if any other complete one stays. What is left of a run that ended
 * before its backup was complete may always go. A backup that is marked already is judged by the rules again.
 *
 * The statement first locks the rows of all stored backups, the oldest first, and reads their newest versions. So two
 * nodes that delete different backups at the same time take turns, and the second sees the mark of the first.
 */
export async function beginDeletion({ database, stateKey, leaseMs }: RunScope, name: string): Promise<boolean> {
  const changed = await database.execute(
    `with stored as materialized (
       select id, ordinal, name, bytes, proven_at, deletion_begun_at is not null as is_going,
              outcome = 'running' and ${isValidUntil('lease_until', '$2')} or ${isValidUntil('drill_until', '$2')} as is_in_use
         from loom_backup_run where state_key = $1 and ${IS_STORED}
        order by ordinal for update
     ), target as (
       select t.id from stored t
        where t.name = $3 and not t.is_in_use and (
          t.bytes is null
          or exists (select from stored o where o.ordinal > t.ordinal and o.proven_at is not null and not o.is_going)
          or t.proven_at is null
             and exists (select from stored o where o.id <> t.id and o.bytes is not null and not o.is_going))
     )
     update loom_backup_run r set deletion_begun_at = coalesce(r.deletion_begun_at, clock_timestamp())
       from target where r.state_key = $1 and r.id = target.id and ${SCHEMA_SERVES}`,
    [stateKey, leaseMs, name],
  );
  return changed === 1;
}

/** Takes the mark off again. A fault says that the store has another object than the catalogue: its proof is void. */
export async function cancelDeletion(
  { database, stateKey }: RunScope,
  name: string,
  fault?: { code: string; detail: string },
): Promise<void> {
  await database.execute(
    `update loom_backup_run
        set deletion_begun_at = null,
            proven_at = case when $3::text is null then proven_at end,
            fault_code = coalesce($3, fault_code), fault_detail = coalesce($4, fault_detail),
            fault_at = case when $3 is null then fault_at else clock_timestamp() end
      where state_key = $1 and ${IS_STORED} and name = $2 and ${SCHEMA_SERVES}`,
    [stateKey, name, fault?.code ?? null, fault?.detail ?? null],
  );
}

/** Records that the store no longer has a backup that was marked for deletion. */
export async function recordDeleted({ database, stateKey }: RunScope, name: string): Promise<void> {
  await database.execute(
    `update loom_backup_run set deleted_at = clock_timestamp()
      where state_key = $1 and ${IS_STORED} and name = $2 and deletion_begun_at is not null and ${SCHEMA_SERVES}`,
    [stateKey, name],
  );
}

/** Records that the store has nothing of a run that ended before its backup was complete. */
export async function recordNeverWritten({ database, stateKey }: RunScope, name: string): Promise<void> {
  await database.execute(
    `update loom_backup_run set deleted_at = clock_timestamp()
      where state_key = $1 and ${IS_STORED} and name = $2 and bytes is null and outcome <> 'running' and ${SCHEMA_SERVES}`,
    [stateKey, name],
  );
}

/** Withdraws the proof of a complete backup and notes the fault, unless a run writes it or a deletion goes on. */
export async function noteFault(
  { database, stateKey }: RunScope,
  name: string,
  { code, detail }: { code: string; detail: string },
): Promise<boolean> {
  const changed = await database.execute(
    `update loom_backup_run
        set proven_at = null, fault_code = $3, fault_detail = $4, fault_at = clock_timestamp()
      where state_key = $1 and ${IS_STORED} and name = $2 and bytes is not null and outcome <> 'running'
        and deletion_begun_at is null and ${SCHEMA_SERVES}`,
    [stateKey, name, code, detail],
  );
  return changed === 1;
}
