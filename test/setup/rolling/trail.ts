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
  const found = new Set<string>();
  const doubled: string[] = [];
  for (const { entry } of rows) {
    const { action, event_id: id } = originalOf(entry);
    if (!action.startsWith('document.')) continue;
    if (found.has(id)) doubled.push(id);
    found.add(id);
  }
  const wanted = new Set(acknowledged.map(({ eventId }) => eventId));
  expect({
    lost: [...wanted].filter((id) => !found.has(id)),
    doubled,
    unknown: [...found].filter((id) => !wanted.has(id)),
  }).toEqual({ lost: [], doubled: [], unknown: [] });
}

function originalOf(entry: StoredEntry): StoredEntry {
  return entry.import === undefined ? entry : originalOf(entry.import.original);
}
