import { createHash } from 'node:crypto';
import { expect } from 'vitest';
import { canonicalText } from '../../../src/json/canonical.ts';
import { mergePatch } from '../values/merge-patch.ts';
import type { TestStore } from './store.ts';

/** A document as the trail alone makes it. */
export interface FoldedDocument {
  value: unknown;
  revision: number;
}

interface RecordedEntry {
  revision: number;
  changes: RecordedChange[];
}

interface RecordedChange {
  op: 'put' | 'merge' | 'delete';
  name: string;
  value?: unknown;
  revision?: number;
}

/** Applies the changes of all entries, one after the other, to an empty state. Knows no action of an entry. */
function foldTrail(trail: RecordedEntry[]): Map<string, FoldedDocument> {
  const documents = new Map<string, FoldedDocument>();
  for (const entry of trail) {
    for (const { op, name, value, revision = entry.revision } of entry.changes) {
      if (op === 'delete') documents.delete(name);
      else if (op === 'put') documents.set(name, { value, revision });
      else documents.set(name, { value: mergePatch(documents.get(name)?.value, value), revision });
    }
  }
  return documents;
}

interface StoredState {
  row: Record<string, unknown>;
  last: Record<string, unknown> | null;
  counted: Record<string, unknown>;
  documents: { name: string; value: unknown; revision: number; sha256: string }[];
  /** Rows that only the index, or only the entries have. */
  index_faults: unknown[];
}

const STORED = `
  with derived as (
    select c.name, a.seq, c.revision, c.op, c.sha256
      from loom_audit a cross join lateral loom_entry_changes(a.entry) c where a.state_key = $1
    union all
    select '', seq, 0, 'unknown', null from loom_audit
     where state_key = $1 and action in ('restore', 'undo') and not loom_entry_is_told(entry)
  ), indexed as (
    select name, seq, revision, op, sha256 from loom_change where state_key = $1
  ), own as (
    select name, value, revision, encode(sha256, 'hex') as sha256, bytes from loom_document where state_key = $1
  )
  select (select to_jsonb(s) from (select epoch, revision, audit_seq as seq, encode(audit_hash, 'hex') as hash, documents, bytes
                                     from loom_state where state_key = $1) s) as row,
         (select to_jsonb(l) from (select entry ->> 'epoch' as epoch, (entry ->> 'revision')::bigint as revision, seq,
                                          encode(hash, 'hex') as hash
                                     from loom_audit where state_key = $1 order by seq desc limit 1) l) as last,
         (select to_jsonb(c) from (select count(*) as documents, coalesce(sum(bytes), 0) as bytes from own) c) as counted,
         (select coalesce(jsonb_agg(to_jsonb(own) - 'bytes'), '[]') from own) as documents,
         (select coalesce(jsonb_agg(f), '[]') from (
            (select 'only the entries' as holder, * from derived except select 'only the entries', * from indexed)
            union all
            (select 'only the index', * from indexed except select 'only the index', * from derived)) f) as index_faults`;

type StateOf = Pick<TestStore, 'pool' | 'stateKey'>;

/**
 * Asserts that the trail alone leads to the state: names, values, digests and revisions. Also calls `expectIndexed`.
 */
export async function expectTrailMakesState({ pool, stateKey }: StateOf): Promise<void> {
  const { documents } = await expectIndexed({ pool, stateKey });
  const trail = await pool.query<{ entry: RecordedEntry }>(
    'select entry from loom_audit where state_key = $1 order by seq',
    [stateKey],
  );
  const folded = [...foldTrail(trail.rows.map(({ entry }) => entry))].map(([name, { value, revision }]) => {
    const sha256 = createHash('sha256').update(canonicalText(value)).digest('hex');
    return { name, value, revision, sha256 };
  });
  expect(inOrder(folded)).toEqual(inOrder(documents));
}

/**
 * Asserts that the index has what the entries say, and that the state row has the end of the trail and the right
 * counts. A restore by an earlier node leaves it at that.
 */
export async function expectIndexed({ pool, stateKey }: StateOf): Promise<StoredState> {
  const { rows } = await pool.query<StoredState>(STORED, [stateKey]);
  const [stored] = rows;
  if (stored === undefined) throw new Error('a query without a table returns one row');
  const { row, last, counted, index_faults: indexFaults } = stored;
  expect(indexFaults).toEqual([]);
  const { documents: count, bytes, ...head } = row;
  expect({ documents: count, bytes }).toEqual(counted);
  if (last !== null) expect(head).toEqual(last);
  return stored;
}

function inOrder<T extends { name: string }>(documents: T[]): T[] {
  return documents.toSorted((left, right) => (left.name < right.name ? -1 : 1));
}
