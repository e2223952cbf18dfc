import { isLoomError, LoomError } from '../../errors.ts';
import type { Connection } from '../connection/connection.ts';
import type { Database } from '../connection/database.ts';
import { detectLostNode } from '../connection/session-bounds.ts';
import { lockRestores } from '../state/restore-lock.ts';
import { toScratchName } from '../state/scratch-states.ts';
import { lockState } from '../state/state-row.ts';

/** Describes the index of one state after it was rebuilt. */
export interface RebuiltIndex {
  kind: 'state' | 'scratch state';
  name: string;
  changes: number;
}

/**
 * Rebuilds the index of changes (`loom_change`) of a state and of its scratch states from their audit entries. Each
 * state has its own transaction, during which its commits wait. A restore would read the index before it locks the
 * state row, so a rebuild excludes restores. Throws `restore_in_progress`, and `schema_behind` before schema version 4.
 */
export async function rebuildIndex(database: Database, stateKey: string): Promise<RebuiltIndex[]> {
  const row = await database.firstRow<{ known: boolean }>(
    `select to_regprocedure('loom_rebuild_changes(text)') is not null as known`,
  );
  if (row?.known !== true) {
    throw new LoomError('schema_behind', 'The database needs migrations. Run node dist/main.js migrate.');
  }
  const scratch = await database.rows<{ state_key: string }>(
    'select state_key from loom_scratch where owner = $1 order by state_key',
    [stateKey],
  );
  const rebuild = (key: string) => database.transaction('write', (connection) => rebuildOne(connection, key));
  const rebuilt: RebuiltIndex[] = [{ kind: 'state', name: stateKey, changes: await rebuild(stateKey) }];
  for (const { state_key: key } of scratch) {
    const changes = await rebuild(key).catch(ignoreDropped);
    if (changes !== undefined) rebuilt.push({ kind: 'scratch state', name: toScratchName(key), changes });
  }
  return rebuilt;
}

/** Ignores that a scratch state has been dropped since it was listed. */
function ignoreDropped(error: unknown): undefined {
  if (!isLoomError(error) || error.code !== 'starting') throw error;
}

/** Returns the number of changes in the new index. */
async function rebuildOne(connection: Connection, stateKey: string): Promise<number> {
  await detectLostNode(connection);
  await lockRestores(connection, stateKey);
  await lockState(connection, stateKey);
  await connection.execute('select loom_rebuild_changes($1)', [stateKey]);
  const row = await connection.firstRow<{ changes: number }>(
    'select count(*) as changes from loom_change where state_key = $1',
    [stateKey],
  );
  return row?.changes ?? 0;
}
