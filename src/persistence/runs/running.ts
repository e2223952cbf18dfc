import type { ClaimedRun, RunLedger, WrittenBackup } from '../../domain/backup-run.ts';
import { LoomError } from '../../errors.ts';
import { sqlStateOf } from '../connection/faults.ts';
import { SCHEMA_SERVES } from '../schema/serves.ts';
import { afterMs, type RunScope } from './scope.ts';

/**
 * Tests whether the run $2 is still that of the node $3. PostgreSQL tests it again if it had to wait for the row, so a
 * node that was frozen changes nothing after its lease.
 */
export const IS_MINE = `id = $2 and node = $3 and outcome = 'running' and lease_until > clock_timestamp() and ${SCHEMA_SERVES}`;

/** Extends the lease, and for a drill also the mark on its backup. */
export async function renew({ database, stateKey, node, leaseMs }: RunScope, run: ClaimedRun): Promise<boolean> {
  const row = await database.firstRow<{ renewed: boolean }>(
    `with run as (
       update loom_backup_run set lease_until = ${afterMs('$4')} where state_key = $1 and ${IS_MINE} returning kind, name
     ), backup as (
       update loom_backup_run b set drill_until = ${afterMs('$4')}
         from run where b.state_key = $1 and run.kind = 'drill' and b.kind <> 'drill' and b.name = run.name
     )
     select exists (select from run) as renewed`,
    [stateKey, run.id, node, leaseMs],
  );
  return row?.renewed === true;
}

/**
 * Ends the lease of a run that this node has aborted because it is shutting down. So another node takes over at once,
 * without the pause after a failure.
 */
export async function release({ database, stateKey, node }: RunScope, run: ClaimedRun): Promise<boolean> {
  const row = await database.firstRow<{ released: boolean }>(
    `with run as (
       update loom_backup_run
          set lease_until = clock_timestamp(), detail = 'The node ' || node || ' was shut down during the run.'
        where state_key = $1 and ${IS_MINE} returning kind, name
     ), backup as (
       update loom_backup_run b set drill_until = null
         from run where b.state_key = $1 and run.kind = 'drill' and b.kind <> 'drill' and b.name = run.name
     )
     select exists (select from run) as released`,
    [stateKey, run.id, node],
  );
  return row?.released === true;
}

/** Records the name of the backup. Throws `state_busy` if another run of this state has taken the name. */
export async function nameBackup(
  { database, stateKey, node }: RunScope,
  run: ClaimedRun,
  { name, takenAt, revision, encrypted, storeId }: Parameters<RunLedger['nameBackup']>[1],
): Promise<boolean> {
  try {
    const changed = await database.execute(
      `update loom_backup_run set name = $4, taken_at = $5, revision = $6, encrypted = $7, store_id = $8
        where state_key = $1 and ${IS_MINE} and kind <> 'drill' and bytes is null`,
      [stateKey, run.id, node, name, takenAt, revision, encrypted, storeId],
    );
    return changed === 1;
  } catch (error) {
    if (sqlStateOf(error) !== UNIQUE_VIOLATION) throw error;
    throw new LoomError(
      'state_busy',
      `Another run has taken the name ${JSON.stringify(name)} in the same millisecond. Request the run again.`,
    );
  }
}

const UNIQUE_VIOLATION = '23505';

/** Takes the name off a run that has written nothing, so that no sweep deletes the object of somebody else for it. */
export async function unnameBackup({ database, stateKey }: RunScope, run: ClaimedRun): Promise<void> {
  await database.execute(
    `update loom_backup_run set name = null, taken_at = null, revision = null, encrypted = null, store_id = null
      where state_key = $1 and id = $2 and kind <> 'drill' and bytes is null and ${SCHEMA_SERVES}`,
    [stateKey, run.id],
  );
}

/** Records that the store has all of the backup and of its manifest. */
export async function recordWritten(
  { database, stateKey, node }: RunScope,
  run: ClaimedRun,
  { bytes, sha256, manifestSha256 }: WrittenBackup,
): Promise<boolean> {
  const changed = await database.execute(
    `update loom_backup_run set bytes = $4, sha256 = decode($5, 'hex'), manifest_sha256 = decode($6, 'hex')
      where state_key = $1 and ${IS_MINE} and kind <> 'drill' and name is not null`,
    [stateKey, run.id, node, bytes, sha256, manifestSha256],
  );
  return changed === 1;
}
