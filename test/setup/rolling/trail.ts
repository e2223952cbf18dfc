import type { Pool } from 'pg';
import { expect } from 'vitest';
import type { Acknowledged } from './traffic.ts';

interface StoredEntry {
  action: string;
  event_id: string;
  import?: { original: StoredEntry };
}

/**
 * Asserts that the trail has exactly one entry for each change of documents that a node has acknowledged, and no entry
 * of another change. An entry that a restore removed and an undo brought back may be inside an import.
 */
export async function expectEachOnce(pool: Pool, acknowledged: readonly Acknowledged[]): Promise<void> {
  const { rows } = await pool.query<{ entry: StoredEntry }>(
    `select entry from loom_audit where state_key = 'default' order by seq`,
  );
  const ids = rows.flatMap(({ entry }) => {
    const { action, event_id: id } = originalOf(entry);
    return action.startsWith('document.') ? [id] : [];
  });
  const found = new Set(ids);
  const wanted = new Set(acknowledged.map(({ eventId }) => eventId));
  expect({
    lost: [...wanted].filter((id) => !found.has(id)),
    doubled: ids.filter((id, index) => ids.indexOf(id) !== index),
    unknown: [...found].filter((id) => !wanted.has(id)),
  }).toEqual({ lost: [], doubled: [], unknown: [] });
}

function originalOf(entry: StoredEntry): StoredEntry {
  return entry.import === undefined ? entry : originalOf(entry.import.original);
}
