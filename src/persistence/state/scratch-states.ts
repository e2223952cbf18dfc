import type { ScratchState } from '../../domain/state.ts';
import { LoomError } from '../../errors.ts';
import type { Queries } from '../connection/connection.ts';
import { rfc3339 } from '../connection/timestamp.ts';

/**
 * Begins the stored key of every scratch state. No state key of a node has a control character, so no node can serve a
 * scratch state, or lose its own state with one. Older versions stored a scratch state under its plain name.
 */
const PREFIX = '\u001f';

/** Returns the key under which a new scratch state of this name is stored. */
export function toScratchKey(name: string): string {
  return `${PREFIX}${name}`;
}

/** Returns the name of the scratch state that is stored under `key`. */
export function toScratchName(key: string): string {
  return key.startsWith(PREFIX) ? key.slice(PREFIX.length) : key;
}

/** Lists the scratch states that belong to the state `owner`, by name. */
export function listScratchStates(queries: Queries, owner: string): Promise<ScratchState[]> {
  return queries.rows<ScratchState>(
    `select ltrim(state_key, $2) as state_key, ${rfc3339('created_at')} as created_at, documents, bytes,
            audit_seq as audit_entries
       from loom_scratch join loom_state using (state_key) where owner = $1 order by 1`,
    [owner, PREFIX],
  );
}

/** Returns the key under which the scratch state of `owner` is stored. Throws `scratch_not_found`. */
export async function findScratchKey(queries: Queries, name: string, owner: string): Promise<string> {
  const row = await queries.firstRow<{ state_key: string }>(
    'select state_key from loom_scratch where state_key in ($1, $2) and owner = $3 order by state_key = $1 desc limit 1',
    [toScratchKey(name), name, owner],
  );
  if (row === undefined) throw scratchNotFound(name);
  return row.state_key;
}

export function scratchNotFound(name: string): LoomError {
  return new LoomError(
    'scratch_not_found',
    `No such scratch state: ${JSON.stringify(name)}. Status lists the scratch states.`,
  );
}
