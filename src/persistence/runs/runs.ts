import type { BackupRun, ClaimedRun } from '../../domain/backup-run.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import type { RunScope } from './scope.ts';

/** Selects the columns of a `BackupRun`. */
export const RUN_COLUMNS = `id::text as id, kind, ${rfc3339('slot')} as slot, attempt, node, outcome,
  ${rfc3339('started_at')} as started_at, ${rfc3339('ended_at')} as ended_at, code, detail,
  ${rfc3339('retry_at')} as retry_at, name, restore_seconds`;

/** Selects the columns of a `ClaimedRow`. */
export const CLAIMED_COLUMNS = `id::text as id, kind, ${rfc3339('slot')} as slot, attempt, name`;

/** A `ClaimedRun` as the database returns it. */
export type ClaimedRow = Omit<ClaimedRun, 'slot'> & { slot: string };

/** Returns a row with exactly the members of a `ClaimedRun`. */
export function toClaimedRun({ id, kind, slot, attempt, name }: ClaimedRow): ClaimedRun {
  return { id, kind, slot: new Date(slot), attempt, name };
}

/** Reads the clock as text in UTC: `DateStyle` may be any, and pg reads only one as a `Date`. */
export async function readClock({ database }: RunScope): Promise<Date> {
  const row = await database.firstRow<{ now: string }>(`select ${rfc3339('clock_timestamp()')} as now`);
  if (row === undefined) throw new Error('the statement on the clock returned no row');
  return new Date(row.now);
}

export async function readRun({ database, stateKey }: RunScope, id: string): Promise<BackupRun | undefined> {
  if (!uuid.test(id)) return undefined;
  return database.firstRow<BackupRun>(`select ${RUN_COLUMNS} from loom_backup_run where state_key = $1 and id = $2`, [
    stateKey,
    id,
  ]);
}

const uuid = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export function listRuns({ database, stateKey }: RunScope, { limit }: { limit: number }): Promise<BackupRun[]> {
  return database.rows<BackupRun>(
    `select ${RUN_COLUMNS} from loom_backup_run where state_key = $1 order by ordinal desc limit $2`,
    [stateKey, limit],
  );
}
