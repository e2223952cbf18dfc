import type { DroppedScratch } from '../../domain/state.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { Connection, Queries } from '../connection/connection.ts';
import type { Database } from '../connection/database.ts';
import { boundTransaction, detectLostNode } from '../connection/session-bounds.ts';
import { assertSchemaServes } from '../schema/serves.ts';
import { digestDocuments } from '../state/digest.ts';
import { createEpoch } from '../state/identifiers.ts';
import { scratchNotFound } from '../state/scratch-states.ts';
import { selectStateKey } from '../state/state-row.ts';
import { removeEntries } from './entries.ts';
import { lockRestores } from './lock.ts';

/** Creates the row of a scratch state of `owner`. Throws `scratch_exists` if any state has this key. */
export async function createScratch(queries: Queries, stateKey: string, owner: string): Promise<void> {
  const created = await queries.execute(
    `with state as (
       insert into loom_state (state_key, epoch, scratch) values ($1, $2, true) on conflict (state_key) do nothing returning state_key
     )
     insert into loom_scratch (state_key, owner) select state_key, $3 from state`,
    [stateKey, createEpoch(), owner],
  );
  if (created !== 1) throw scratchExists(stateKey);
}

/** Throws `scratch_exists` as `createScratch` does, before the client has sent its whole backup. */
export async function assertScratchIsFree(queries: Queries, stateKey: string): Promise<void> {
  const row = await queries.firstRow('select from loom_state where state_key = $1', [stateKey]);
  if (row !== undefined) throw scratchExists(stateKey);
}

/** Computes the digest of a state from its rows in `loom_document`. */
export async function digestState(connection: Connection, stateKey: string): Promise<string> {
  await selectStateKey(connection, stateKey);
  const rows = `loom_document where state_key = current_setting('loom.state_key')`;
  return (await digestDocuments(connection, rows)).sha256;
}

/** Drops a scratch state of `owner` with all its content, and returns its counts. Never drops any other state. */
export function dropScratch(database: Database, stateKey: string, owner: string): Promise<DroppedScratch> {
  return database.transaction('write', async (connection) => {
    await boundTransaction(connection, limits.lockedIdleTimeoutMs);
    await detectLostNode(connection);
    await assertSchemaServes(connection);
    await lockRestores(connection, stateKey, 'scratch');
    const state = await connection.firstRow<{ audit_entries: number }>(
      `with scratch as (
         delete from loom_scratch where state_key = $1 and owner = $2 returning state_key
       )
       delete from loom_state s using scratch where s.state_key = scratch.state_key and s.scratch
       returning audit_seq as audit_entries`,
      [stateKey, owner],
    );
    if (state === undefined) throw scratchNotFound(stateKey);
    // A node that serves this state may be restoring it, with a plan that depends on the trail.
    await lockRestores(connection, stateKey);
    const documents = await connection.execute('delete from loom_document where state_key = $1', [stateKey]);
    await removeEntries(connection, stateKey, 0);
    // A node that served this state may own scratch states. Without an owner, they could not be dropped.
    await connection.execute('update loom_scratch set owner = $2 where owner = $1', [stateKey, owner]);
    // That node may also have written undo records.
    for (const table of ['loom_snapshot_document', 'loom_snapshot_audit', 'loom_snapshot']) {
      await connection.execute(`delete from ${table} where state_key = $1`, [stateKey]);
    }
    return { dropped: true, state_key: stateKey, documents, audit_entries: state.audit_entries };
  });
}

function scratchExists(stateKey: string): LoomError {
  return new LoomError(
    'scratch_exists',
    `A state ${JSON.stringify(stateKey)} already exists. Choose another name for the scratch state.`,
    { pointer: '/into_scratch' },
  );
}
