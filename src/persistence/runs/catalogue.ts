import type { CatalogueEntry } from '../../domain/backup-run.ts';
import { LoomError, shortText } from '../../errors.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import { isValidUntil, type RunScope } from './scope.ts';

/**
 * Selects the outcome of a backup. It begins as that of its run. A drill that fails takes `proven` away, and one that
 * succeeds gives it: it is `proven` if and only if `proven_at` is set.
 */
const OUTCOME = `case when outcome = 'running' then outcome when proven_at is not null then 'proven'
  when outcome = 'proven' then 'failed' else outcome end as outcome`;

/** Selects the columns of a `CatalogueEntry`. $2 is the time of a lease in milliseconds. */
const BACKUP_COLUMNS = `name, kind, ${rfc3339('taken_at')} as taken_at, revision, bytes,
  encode(sha256, 'hex') as sha256, encrypted, ${OUTCOME}, ${rfc3339('verified_at')} as verified_at,
  ${rfc3339('proven_at')} as proven_at, restore_seconds,
  case when fault_at is not null then json_build_object('found_at', ${rfc3339('fault_at')}, 'code', fault_code, 'detail', fault_detail)
    end as fault,
  id::text as "runId", encode(manifest_sha256, 'hex') as "manifestSha256", store_id::text as "storeId",
  outcome = 'running' and ${isValidUntil('lease_until', '$2')} as "isBeingWritten",
  ${rfc3339('deletion_begun_at')} as "deletionBegunAt",
  exists (select from loom_backup_claim c
           where c.state_key = $1 and (c.settled_at is not null or c.upto_ordinal < loom_backup_run.ordinal)) as "isOwn"`;

/** Selects the rows of stored backups, without the deleted ones. An index has this condition. */
export const IS_STORED = `kind <> 'drill' and name is not null and deleted_at is null`;

/** Tests whether a client's text can be the name of a stored backup. PostgreSQL has no text with U+0000. */
function isStoredName(text: string): boolean {
  return /^[\x21-\x7e]+$/.test(text);
}

/**
 * Lists the stored backups, newest first. Throws `invalid_parameter` if the catalogue has never had `before`, or has
 * pruned it.
 */
export async function listBackups(
  { database, stateKey, leaseMs }: RunScope,
  { limit, before }: { limit: number; before?: string | undefined },
): Promise<CatalogueEntry[]> {
  if (before === undefined) {
    return database.rows<CatalogueEntry>(
      `select ${BACKUP_COLUMNS} from loom_backup_run where state_key = $1 and ${IS_STORED} order by ordinal desc limit $3`,
      [stateKey, leaseMs, limit],
    );
  }
  const last = isStoredName(before)
    ? await database.firstRow<{ ordinal: number }>(
        `select ordinal from loom_backup_run where state_key = $1 and kind <> 'drill' and name = $2`,
        [stateKey, before],
      )
    : undefined;
  if (last === undefined) {
    throw new LoomError(
      'invalid_parameter',
      `The catalogue has no backup ${JSON.stringify(shortText(before))}, so no backups before it can be listed. Begin the list again.`,
    );
  }
  return database.rows<CatalogueEntry>(
    `select ${BACKUP_COLUMNS} from loom_backup_run
      where state_key = $1 and ${IS_STORED} and ordinal < $4 order by ordinal desc limit $3`,
    [stateKey, leaseMs, limit, last.ordinal],
  );
}

/** Returns undefined also for a name that no backup can have. */
export async function readBackup(
  { database, stateKey, leaseMs }: RunScope,
  name: string,
): Promise<CatalogueEntry | undefined> {
  if (!isStoredName(name)) return undefined;
  return database.firstRow<CatalogueEntry>(
    `select ${BACKUP_COLUMNS} from loom_backup_run where state_key = $1 and ${IS_STORED} and name = $3`,
    [stateKey, leaseMs, name],
  );
}

/** Returns the newest complete backup that no deletion is about to remove. Undefined if there is none. */
export function readNewestComplete({ database, stateKey, leaseMs }: RunScope): Promise<CatalogueEntry | undefined> {
  return database.firstRow<CatalogueEntry>(
    `select ${BACKUP_COLUMNS} from loom_backup_run
      where state_key = $1 and ${IS_STORED} and bytes is not null and deletion_begun_at is null
      order by ordinal desc limit 1`,
    [stateKey, leaseMs],
  );
}

/**
 * Selects the backup whose last proof, or last attempt at one, is the oldest. So one that is damaged, or for which no
 * node has a key, waits for its turn again, and the drills of the others go on.
 */
export async function nextToProve({ database, stateKey, leaseMs }: RunScope): Promise<string | undefined> {
  const row = await database.firstRow<{ name: string }>(
    `select b.name from (
       select * from loom_backup_run
        where state_key = $1 and ${IS_STORED} and bytes is not null and outcome <> 'running'
          and deletion_begun_at is null and not ${isValidUntil('drill_until', '$2')}) b
       left join (
         select name, max(started_at) as begun_at from loom_backup_run
          where state_key = $1 and kind = 'drill' group by name) drill on drill.name = b.name
      order by greatest(b.proven_at, b.verified_at, b.fault_at, drill.begun_at) nulls first, b.ordinal limit 1`,
    [stateKey, leaseMs],
  );
  return row?.name;
}
