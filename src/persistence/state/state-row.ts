// persistence/state/ has the row of a state (`loom_state`), ids, state digests and the list of scratch states. It
// imports domain, errors, limits and, of persistence, connection/. It must not know commits, backups or restores.

import type { StateHead } from '../../domain/state.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { Queries } from '../connection/connection.ts';
import { stateMissing } from '../connection/faults.ts';
import { boundTransaction } from '../connection/session-bounds.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import { createEpoch } from './identifiers.ts';

/**
 * Creates the row of a new state. An existing row stays as it is. Throws `scratch_exists` if the row is that of a
 * scratch state: older versions stored one under its plain name.
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
    `insert into loom_state (state_key, epoch) values ($1, $2)
     on conflict (state_key) do nothing`,
    [stateKey, createEpoch()],
  );
}

/** Reads the head of the state. Throws `starting` if its row does not exist. */
export function readStateHead(queries: Queries, stateKey: string): Promise<StateHead> {
  return readRow(queries, stateKey, '');
}

/**
 * Reads the head of the state and locks its row. Commits wait until the transaction ends. PostgreSQL ends it if it is
 * idle for `limits.lockedIdleTimeoutMs`. Throws `starting` if the row does not exist, and `state_busy` if the lock is not
 * free within `limits.restoreLockTimeoutMs`.
 */
export async function lockState(queries: Queries, stateKey: string): Promise<StateHead> {
  await boundTransaction(queries, { idleMs: limits.lockedIdleTimeoutMs, lockMs: limits.restoreLockTimeoutMs });
  return readRow(queries, stateKey, 'for no key update');
}

async function readRow(queries: Queries, stateKey: string, lock: '' | 'for no key update'): Promise<StateHead> {
  const row = await queries.firstRow<Omit<StateHead, 'stateKey' | 'head'> & StateHead['head']>(
    `select epoch, revision, documents, bytes, audit_seq as seq, encode(audit_hash, 'hex') as hash,
            ${rfc3339('last_backup_at')} as "lastBackupAt", ${rfc3339('last_restore_at')} as "lastRestoreAt",
            ${rfc3339('updated_at')} as "updatedAt"
       from loom_state where state_key = $1 ${lock}`,
    [stateKey],
  );
  const { seq, hash, ...rest } = requireState(row);
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
