// persistence/state/ has the row of a state (`loom_state`), the lock for restores, ids, digests and the list of scratch
// states. It imports domain, errors, limits and, of persistence, connection/. It must not know commits or backups, or
// how a restore works.

import type { EpochChange, ObservedHead, StateHead } from '../../domain/state.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { Queries } from '../connection/connection.ts';
import { stateMissing } from '../connection/faults.ts';
import { boundTransaction } from '../connection/session-bounds.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import { assertUnfiltered, IS_FILTERED } from './consistency.ts';
import { createEpoch } from './identifiers.ts';

/**
 * Creates the row of a new state. An existing row stays as it is. Documents or entries without a row prevent a new one:
 * its counts and head would contradict them, and the next commit would begin a second trail over the first. Throws
 * `scratch_exists` if the row is that of a scratch state: older versions stored one under its plain name.
 */
export async function ensureState(queries: Queries, stateKey: string): Promise<void> {
  const scratch = await queries.firstRow('select from loom_state where state_key = $1 and scratch', [stateKey]);
  if (scratch !== undefined) {
    throw new LoomError(
      'scratch_exists',
      `The state key ${JSON.stringify(stateKey)} is that of a scratch state, which a node of an older version created. ` +
        'Drop it with a node of the state that it belongs to, or set another LOOM_PG_STATE_KEY.',
    );
  }
  await queries.execute(
    `insert into loom_state (state_key, epoch)
     select $1, $2 where not exists (select from loom_document where state_key = $1)
                     and not exists (select from loom_audit where state_key = $1)
     on conflict (state_key) do nothing`,
    [stateKey, createEpoch()],
  );
}

/**
 * Reads the head of the state. Throws `starting` if its row does not exist, and `state_inconsistent` if a policy can
 * hide its documents or entries: nothing that is read with this head would be whole.
 */
export function readStateHead(queries: Queries, stateKey: string): Promise<StateHead> {
  return readRow(queries, stateKey, '');
}

/**
 * Reads the head of the state and locks its row. Commits wait until the transaction ends. PostgreSQL ends it if it is
 * idle for `limits.lockedIdleTimeoutMs`. Throws `starting` if the row does not exist, and `state_busy` if the lock is
 * not free within `limits.restoreLockTimeoutMs`.
 */
export async function lockState(queries: Queries, stateKey: string): Promise<StateHead> {
  await boundTransaction(queries, { idleMs: limits.lockedIdleTimeoutMs, lockMs: limits.restoreLockTimeoutMs });
  return readRow(queries, stateKey, 'for no key update');
}

/** Reads the head of the state for the status and the metrics, also before the migration to schema version 3. */
export async function observeStateHead(queries: Queries, stateKey: string): Promise<ObservedHead> {
  const table = await queries.firstRow<{ found: boolean }>(`select to_regclass('loom_lineage') is not null as found`);
  const [head, row] = await Promise.all([
    readStateHead(queries, stateKey),
    table?.found === true ? readEpochChanges(queries, stateKey) : undefined,
  ]);
  const last = row === undefined || row.at === null ? null : { at: row.at, reason: row.reason };
  return { ...head, epochChanges: row?.changes ?? 0, lastEpochChange: last };
}

interface EpochChanges {
  changes: number;
  at: string | null;
  reason: EpochChange['reason'];
}

function readEpochChanges(queries: Queries, stateKey: string): Promise<EpochChanges | undefined> {
  return queries.firstRow<EpochChanges>(
    `select epoch_changes as changes, ${rfc3339('epoch_changed_at')} as at, epoch_reason as reason
       from loom_lineage where state_key = $1`,
    [stateKey],
  );
}

/**
 * Starts a new epoch if the database may have lost commits, as a commit does. Returns whether it has. The caller holds
 * the lock of the state row.
 */
export async function startEpochIfLost(queries: Queries, stateKey: string, requestId: string): Promise<boolean> {
  const row = await queries.firstRow<{ started: boolean }>('select loom_check_lineage($1, null, $2) as started', [
    stateKey,
    requestId,
  ]);
  return row?.started === true;
}

/** Returns whether the next commit or restore starts a new epoch, because this is another copy of the database. */
export async function isLineageChanged(queries: Queries, stateKey: string): Promise<boolean> {
  const row = await queries.firstRow<{ changed: boolean }>(
    'select lineage <> loom_current_lineage() as changed from loom_lineage where state_key = $1',
    [stateKey],
  );
  return row?.changed === true;
}

/** Selects the times ahead of the clock. The minute of tolerance covers the clocks of two servers around a failover. */
const FUTURE_TIMES = `array(
  select name from (values ('last_backup_at', last_backup_at), ('last_restore_at', last_restore_at),
                           ('state.updated_at', updated_at)) as t (name, at)
   where at > clock_timestamp() + interval '1 minute')`;

async function readRow(queries: Queries, stateKey: string, lock: '' | 'for no key update'): Promise<StateHead> {
  const row = await queries.firstRow<
    Omit<StateHead, 'stateKey' | 'head'> & StateHead['head'] & { isFiltered: boolean }
  >(
    `select epoch, revision, documents, bytes, audit_seq as seq, encode(audit_hash, 'hex') as hash,
            ${rfc3339('last_backup_at')} as "lastBackupAt", ${rfc3339('last_restore_at')} as "lastRestoreAt",
            ${rfc3339('updated_at')} as "updatedAt", ${FUTURE_TIMES} as "futureTimes", ${IS_FILTERED}
       from loom_state where state_key = $1 ${lock}`,
    [stateKey],
  );
  const { seq, hash, isFiltered, ...rest } = requireState(row);
  assertUnfiltered(isFiltered);
  return { stateKey, ...rest, head: { seq, hash } };
}

/** Returns `row`, or throws `starting` if the query found no row of the state. */
export function requireState<Row>(row: Row | undefined): Row {
  if (row === undefined) throw stateMissing();
  return row;
}

/** Sets `loom.state_key` until the transaction ends. A COPY takes no parameters, so its query reads this setting. */
export async function selectStateKey(queries: Queries, stateKey: string): Promise<void> {
  await queries.execute(`select set_config('loom.state_key', $1, true)`, [stateKey]);
}
