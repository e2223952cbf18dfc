import type { Pool, PoolClient } from 'pg';
import type { ScratchState } from '../../domain/state.ts';
import { LoomError } from '../../errors.ts';
import { queryRows } from '../connection/query.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import { inTransaction } from '../connection/transaction.ts';
import { selectStateKey } from '../read/state.ts';
import { digestDocuments } from '../state/digest.ts';
import { createEpoch } from '../state/ids.ts';
import { assertSchemaServes } from '../state/live.ts';
import { removeEntries } from './entries.ts';
import { lockRestores } from './lock.ts';

/** Makes the row of a scratch state of `owner`. Throws `scratch_exists` when there is a state of this key, scratch or not. */
export async function createScratch(client: PoolClient, stateKey: string, owner: string): Promise<void> {
  const { rowCount } = await client.query(
    `with state as (
       insert into loom_state (state_key, epoch, scratch) values ($1, $2, true) on conflict (state_key) do nothing returning state_key
     )
     insert into loom_scratch (state_key, owner) select state_key, $3 from state`,
    [stateKey, createEpoch(), owner],
  );
  if (rowCount !== 1) throw scratchExists(stateKey);
}

/** As `createScratch` throws, before anything has been sent for it. */
export async function assertScratchIsFree(client: PoolClient, stateKey: string): Promise<void> {
  const rows = await queryRows(client, 'select from loom_state where state_key = $1', [stateKey]);
  if (rows.length > 0) throw scratchExists(stateKey);
}

/** What stands in the tables by now. */
export async function digestState(client: PoolClient, stateKey: string): Promise<string> {
  await selectStateKey(client, stateKey);
  const { sha256 } = await digestDocuments(client, `loom_document where state_key = current_setting('loom.state_key')`);
  return sha256;
}

export function listScratchStates(pool: Pool, owner: string): Promise<ScratchState[]> {
  return queryRows<ScratchState>(
    pool,
    `select state_key, ${rfc3339('created_at')} as created_at, documents, bytes, audit_seq as audit_entries
       from loom_scratch join loom_state using (state_key) where owner = $1 order by state_key`,
    [owner],
  );
}

/** Throws `scratch_not_found` unless `owner` has a scratch state of this key. */
export async function assertScratch(client: PoolClient, stateKey: string, owner: string): Promise<void> {
  const rows = await queryRows(client, 'select from loom_scratch where state_key = $1 and owner = $2', [
    stateKey,
    owner,
  ]);
  if (rows.length === 0) throw noScratch(stateKey);
}

/** Removes a scratch state of `owner` with all that is in it, and answers what it held. Any other state is left alone. */
export async function dropScratch(
  pool: Pool,
  stateKey: string,
  owner: string,
): Promise<Pick<ScratchState, 'state_key' | 'documents' | 'audit_entries'>> {
  return inTransaction(pool, 'write', async (client) => {
    await assertSchemaServes(client);
    await lockRestores(client, stateKey, 'scratch');
    const { rows } = await client.query<{ audit_entries: number }>(
      `with scratch as (
         delete from loom_scratch where state_key = $1 and owner = $2 returning state_key
       )
       delete from loom_state s using scratch where s.state_key = scratch.state_key and s.scratch
       returning audit_seq as audit_entries`,
      [stateKey, owner],
    );
    const state = rows[0];
    if (state === undefined) throw noScratch(stateKey);
    // A node that serves it may be restoring it: that one has compared what must not become another state of the same name.
    await lockRestores(client, stateKey);
    const { rowCount } = await client.query('delete from loom_document where state_key = $1', [stateKey]);
    await removeEntries(client, stateKey, 0);
    // Made by a node that has served it: without an owner nobody could see them any more, nor drop them.
    await client.query('update loom_scratch set owner = $2 where owner = $1', [stateKey, owner]);
    // Kept when a node has served it, and made restores there.
    for (const table of ['loom_snapshot_document', 'loom_snapshot_audit', 'loom_snapshot']) {
      await client.query(`delete from ${table} where state_key = $1`, [stateKey]);
    }
    return { state_key: stateKey, documents: rowCount ?? 0, audit_entries: state.audit_entries };
  });
}

function scratchExists(stateKey: string): LoomError {
  return new LoomError(
    'scratch_exists',
    `There is a state ${JSON.stringify(stateKey)} already: choose another name for the scratch state.`,
    { pointer: '/into_scratch' },
  );
}

function noScratch(stateKey: string): LoomError {
  return new LoomError(
    'scratch_not_found',
    `There is no scratch state ${JSON.stringify(stateKey)}. States that are not scratch are never dropped.`,
  );
}
