import type { ScratchState } from '../../domain/state.ts';
import { LoomError } from '../../errors.ts';
import type { Queries } from '../connection/connection.ts';
import { rfc3339 } from '../connection/timestamp.ts';

/** Lists the scratch states that belong to the state `owner`. */
export function listScratchStates(queries: Queries, owner: string): Promise<ScratchState[]> {
  return queries.rows<ScratchState>(
    `select state_key, ${rfc3339('created_at')} as created_at, documents, bytes, audit_seq as audit_entries
       from loom_scratch join loom_state using (state_key) where owner = $1 order by state_key`,
    [owner],
  );
}

/** Throws `scratch_not_found` unless `owner` has a scratch state of this key. */
export async function assertScratch(queries: Queries, stateKey: string, owner: string): Promise<void> {
  const row = await queries.firstRow('select from loom_scratch where state_key = $1 and owner = $2', [stateKey, owner]);
  if (row === undefined) throw scratchNotFound(stateKey);
}

export function scratchNotFound(stateKey: string): LoomError {
  return new LoomError(
    'scratch_not_found',
    `No such scratch state: ${JSON.stringify(stateKey)}. Status lists the scratch states.`,
  );
}
