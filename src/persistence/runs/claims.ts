import { randomUUID } from 'node:crypto';
import { type ClaimedRun, storedBackupNotFound } from '../../domain/backup-run.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { assertSchemaServes, SCHEMA_SERVES } from '../schema/serves.ts';
import { readBackup } from './catalogue.ts';
import { CLAIMED_COLUMNS, type ClaimedRow, readClock, toClaimedRun } from './runs.ts';
import { afterMs, isValidUntil, type RunScope } from './scope.ts';

/** Tests whether a row is that of a backup which a drill can read. */
const IS_READABLE = `kind <> 'drill' and name is not null and bytes is not null and outcome <> 'running'
  and deleted_at is null and deletion_begun_at is null`;

/**
 * Claims the first attempt at a slot. Undefined if the slot has an attempt already, or if a drill cannot read its
 * backup any more. A drill marks the row of its backup first, so that no deletion begins.
 */
export async function claimSlot(
  scope: RunScope,
  kind: ClaimedRun['kind'],
  slot: Date,
  name: string | undefined,
): Promise<ClaimedRun | undefined> {
  const { database, stateKey, node, leaseMs } = scope;
  const row = await database.firstRow<ClaimedRow>(
    `with backup as (
       update loom_backup_run set drill_until = ${afterMs('$4')}
        where state_key = $1 and name = $5 and ${IS_READABLE} and ${SCHEMA_SERVES}
          and $6 = 'drill' and not exists (select from loom_backup_run where state_key = $1 and kind = $6 and slot = $7)
       returning id
     )
     insert into loom_backup_run (state_key, kind, slot, attempt, id, node, lease_until, outcome, started_at, name)
     select $1, $6, $7, 1, $2, $3, ${afterMs('$4')}, 'running', clock_timestamp(), $5
      where ($6 <> 'drill' or exists (select from backup)) and ${SCHEMA_SERVES}
     on conflict (state_key, kind, slot, attempt) do nothing
     returning ${CLAIMED_COLUMNS}`,
    [stateKey, randomUUID(), node, leaseMs, name ?? null, kind, slot],
  );
  return row === undefined ? undefined : toClaimedRun(row);
}

/**
 * Claims a run that was requested now. Throws `stored_backup_not_found` or `backup_running` if a drill cannot read the
 * backup, and `schema_ahead` if the schema no longer serves this node.
 */
export async function claimNow(
  scope: RunScope,
  kind: 'manual' | 'drill',
  name: string | undefined,
): Promise<ClaimedRun> {
  const { database } = scope;
  await assertSchemaServes(database);
  if (kind === 'drill') await assertReadable(scope, name ?? '');
  for (let attempt = 1; attempt <= MAX_CLAIMS; attempt += 1) {
    // The slot has whole milliseconds, because a `Date` has no more.
    const run = await claimSlot(scope, kind, await readClock(scope), name);
    if (run !== undefined) return run;
    if (kind === 'drill') await assertReadable(scope, name ?? '');
  }
  throw new LoomError('state_busy', 'Other runs were requested at the same time. Request the run again.', {
    retryAfterSeconds: 1,
  });
}

/** Bounds the attempts to find a millisecond in which nobody else has requested a run. */
const MAX_CLAIMS = 100;

async function assertReadable(scope: RunScope, name: string): Promise<void> {
  const backup = await readBackup(scope, name);
  if (backup === undefined || backup.deletionBegunAt !== null) {
    throw storedBackupNotFound(name);
  }
  if (backup.outcome === 'running') {
    throw new LoomError(
      'backup_running',
      `The backup ${JSON.stringify(name)} is still being written or proved. Wait for the run ${backup.runId} to end.`,
      { retryAfterSeconds: 5 },
    );
  }
  if (backup.bytes === null) {
    throw new LoomError(
      'stored_backup_missing',
      `The backup ${JSON.stringify(name)} is incomplete: the run ${backup.runId} ended before the store had all of it.`,
    );
  }
}

/**
 * Takes over one run: marks an attempt with an expired lease as abandoned and claims the next, or claims the next
 * attempt after a failed one whose backoff is over. The newest slot comes first. The last attempt of a slot only ends.
 * Undefined if nothing is due.
 */
export async function claimRetry(scope: RunScope): Promise<ClaimedRun | undefined> {
  const { database, stateKey, node, leaseMs, backoffMs } = scope;
  for (;;) {
    const row = await database.firstRow<Partial<ClaimedRow> & { found: boolean }>(CLAIM_RETRY, [
      stateKey,
      randomUUID(),
      node,
      leaseMs,
      maxBackoffMs(backoffMs),
      limits.maxFailedAttempts,
      limits.maxAbandonedAttempts,
    ]);
    if (row === undefined || !row.found) return undefined;
    if (isClaimed(row)) return toClaimedRun(row);
  }
}

function isClaimed(row: Partial<ClaimedRow>): row is ClaimedRow {
  return typeof row.id === 'string';
}

/** Returns the longest pause before an attempt. A time further away was computed before the clock went back. */
function maxBackoffMs(backoffMs: number): number {
  return backoffMs * limits.retryBackoffFactor ** limits.maxFailedAttempts;
}

/**
 * The lock on the row of the last attempt decides which node claims the next one. The rows of earlier attempts never
 * change, so it does not matter that the statement may have begun before the lock.
 */
const CLAIM_RETRY = `
  with due as (
    select id, kind, slot, attempt, outcome, name from loom_backup_run
     where state_key = $1 and (outcome = 'running' or retry_at is not null) and ${SCHEMA_SERVES}
       and case when outcome = 'running' then not ${isValidUntil('lease_until', '$4')}
                else retry_at <= clock_timestamp() or retry_at > ${afterMs('$5')} end
     order by slot desc, ordinal desc limit 1 for update skip locked
  ), earlier as (
    select count(*) filter (where r.outcome = 'failed') as failed,
           count(*) filter (where r.outcome = 'abandoned') as abandoned
      from due join loom_backup_run r on r.state_key = $1 and r.kind = due.kind and r.slot = due.slot and r.attempt < due.attempt
  ), next as (
    select due.* from due, earlier
     where earlier.failed + (due.outcome = 'failed')::int < $6 and earlier.abandoned + (due.outcome = 'running')::int < $7
  ), ended as (
    update loom_backup_run r
       set retry_at = null, outcome = case r.outcome when 'running' then 'abandoned' else r.outcome end,
           ended_at = coalesce(r.ended_at, clock_timestamp()),
           code = coalesce(r.code, 'run_lost'),
           detail = coalesce(r.detail, format('The node %s stopped renewing the lease of the run. '
             'It has died, or could not reach the database.', r.node))
      from due where r.state_key = $1 and r.id = due.id
  ), backup as (
    update loom_backup_run b set drill_until = ${afterMs('$4')}
      from next where b.state_key = $1 and b.name = next.name and next.kind = 'drill'
       and b.kind <> 'drill' and b.bytes is not null and b.deleted_at is null and b.deletion_begun_at is null
    returning b.id
  ), claimed as (
    insert into loom_backup_run (state_key, kind, slot, attempt, id, node, lease_until, outcome, started_at, name)
    select $1, kind, slot, attempt + 1, $2, $3, ${afterMs('$4')}, 'running', clock_timestamp(),
           case kind when 'drill' then name end
      from next where kind <> 'drill' or exists (select from backup)
    returning ${CLAIMED_COLUMNS}
  )
  select exists (select from due) as found, claimed.* from (values (1)) as one left join claimed on true`;
