import type { DroppedScratch } from '../../domain/state.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { Connection, Queries } from '../connection/connection.ts';
import type { Database } from '../connection/database.ts';
import { boundTransaction, detectLostNode } from '../connection/session-bounds.ts';
import { assertSchemaServes } from '../schema/serves.ts';
import { digestDocuments } from '../state/digest.ts';
import { createEpoch } from '../state/identifiers.ts';
import { lockRestores } from '../state/restore-lock.ts';
import { findScratchKey, scratchNotFound, toScratchKey } from '../state/scratch-states.ts';
import { selectStateKey } from '../state/state-row.ts';
import { removeEntries } from './entries.ts';

/**
 * Creates the row of a scratch state of `owner`, and returns its stored key. Throws `scratch_exists` if a scratch state
 * of any owner or another state has this name.
 */
export async function createScratch(queries: Queries, name: string, owner: string): Promise<string> {
  await assertScratchIsFree(queries, name);
  const stateKey = toScratchKey(name);
  const created = await queries.execute(
    `with state as (
       insert into loom_state (state_key, epoch, scratch) values ($1, $2, true) on conflict (state_key) do nothing returning state_key
     )
     insert into loom_scratch (state_key, owner) select state_key, $3 from state`,
    [stateKey, createEpoch(), owner],
  );
  if (created !== 1) throw scratchExists(name);
  // A node of an older version drops a scratch state without its rows in the index.
  await queries.execute('delete from loom_change where state_key = $1', [stateKey]);
  return stateKey;
}

/** Throws `scratch_exists` as `createScratch` does, before the client has sent its whole backup. */
export async function assertScratchIsFree(queries: Queries, name: string): Promise<void> {
  const row = await queries.firstRow('select from loom_state where state_key in ($1, $2)', [toScratchKey(name), name]);
  if (row !== undefined) throw scratchExists(name);
}

/** Computes the digest of a state from its rows in `loom_document`. */
export async function digestState(connection: Connection, stateKey: string): Promise<string> {
  await selectStateKey(connection, stateKey);
  const rows = `loom_document where state_key = current_setting('loom.state_key')`;
  return (await digestDocuments(connection, rows)).sha256;
}

/** Drops a scratch state of `owner` with all its content, and returns its counts. Never drops any other state. */
export function dropScratch(database: Database, name: string, owner: string): Promise<DroppedScratch> {
  return database.transaction('write', async (connection) => {
    await boundTransaction(connection, { idleMs: limits.lockedIdleTimeoutMs, lockMs: limits.restoreLockTimeoutMs });
    await detectLostNode(connection);
    await assertSchemaServes(connection);
    await lockRestores(connection, name, 'scratch');
    const stateKey = await findScratchKey(connection, name, owner);
    // A node of an older version may serve a scratch state of its time, and be restoring it.
    await lockRestores(connection, stateKey);
    // Before the row goes, which says that the state is a scratch state.
    await removeEntries(connection, stateKey, 0);
    const state = await connection.firstRow<{ audit_entries: number }>(
      `with scratch as (
         delete from loom_scratch where state_key = $1 and owner = $2 returning state_key
       )
       delete from loom_state s using scratch where s.state_key = scratch.state_key and s.scratch
       returning audit_seq as audit_entries`,
      [stateKey, owner],
    );
    if (state === undefined) throw scratchNotFound(name);
    const documents = await connection.execute('delete from loom_document where state_key = $1', [stateKey]);
    // A node that served this state may own scratch states. Without an owner, they could not be dropped.
    await connection.execute('update loom_scratch set owner = $2 where owner = $1', [stateKey, owner]);
    // That node may also have written undo records.
    for (const table of ['loom_snapshot_document', 'loom_snapshot_audit', 'loom_snapshot', 'loom_lineage']) {
      await connection.execute(`delete from ${table} where state_key = $1`, [stateKey]);
    }
    return { dropped: true, state_key: name, documents, audit_entries: state.audit_entries };
  });
}

function scratchExists(name: string): LoomError {
  return new LoomError(
    'scratch_exists',
    `A state ${JSON.stringify(name)} already exists. Choose another name for the scratch state.`,
    { pointer: '/into_scratch' },
  );
}
