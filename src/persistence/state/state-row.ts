// persistence/state/ has the row of a state (`loom_state`), ids, state digests and the list of scratch states. It
// imports domain, errors, limits and, of persistence, connection/. It must not know commits, backups or restores.

import type { StateHead } from '../../domain/state.ts';
import { limits } from '../../limits.ts';
import type { Queries } from '../connection/connection.ts';
import { stateMissing } from '../connection/faults.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import { assertUnfiltered, IS_FILTERED } from './consistency.ts';
import { createEpoch } from './identifiers.ts';

/**
 * Creates the row of a new state. An existing row stays as it is. Documents or entries without a row prevent a new one:
 * its counts and head would contradict them, and the next commit would begin a second trail over the first.
 */
export async function ensureState(queries: Queries, stateKey: string): Promise<void> {
  await queries.execute(
    `insert into loom_state (state_key, epoch)
     select $1, $2 where not exists (select from loom_document where state_key = $1)
                     and not exists (select from loom_audit where state_key = $1)
     on conflict (state_key) do nothing`,
    [stateKey, createEpoch()],
  );
}

/**
 * Reads the head of the state. Throws `starting` if its row does not exist, and `state_inconsistent` if a policy can hide
 * its documents or entries: nothing that is read with this head would be whole.
 */
export function readStateHead(queries: Queries, stateKey: string): Promise<StateHead> {
  return readRow(queries, stateKey, '');
}

/**
 * Reads the head of the state and locks its row. Commits wait until the transaction ends. Throws `starting` if the row
 * does not exist, and `state_busy` if the lock is not free within `limits.restoreLockTimeoutMs`.
 */
export async function lockState(queries: Queries, stateKey: string): Promise<StateHead> {
  await queries.execute(`select set_config('lock_timeout', $1, true)`, [String(limits.restoreLockTimeoutMs)]);
  return readRow(queries, stateKey, 'for no key update');
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
