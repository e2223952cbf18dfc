import { createHash } from 'node:crypto';
import { expect } from 'vitest';
import type { RecordedChange } from '../../../src/domain/history.ts';
import { canonicalText } from '../../../src/json/canonical.ts';
import { mergePatch } from '../values/merge-patch.ts';
import type { TestStore } from './store.ts';

/** An audit entry as `JSON.parse` returns it, including its hash. */
export type Entry = Record<string, unknown> & { seq: number; hash: string; action: string };

/** Reads all audit entries of a node's state, oldest first. */
export async function trailOf({ store }: TestStore): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (let after: number | null = 0; after !== null; ) {
    const page = await store.readAudit({ after, limit: 1_000, order: 'asc' });
    entries.push(...page.entries.map(({ text }) => JSON.parse(text) as Entry));
    after = page.next;
  }
  return entries;
}

/** Returns the original entries inside the `audit.import` entries of a trail. */
export function importedOf(trail: Entry[]): Entry[] {
  return trail
    .filter(({ action }) => action === 'audit.import')
    .map((entry) => (entry.import as { original: Entry }).original);
}

/** Returns the entries of `wanted` that `trail` has neither unchanged nor as imports. */
export function lostOf(wanted: Entry[], trail: Entry[]): Entry[] {
  const found = new Set([...trail, ...importedOf(trail)].map((entry) => sorted(entry)));
  return wanted.filter((entry) => !found.has(sorted(entry)));
}

function sorted(value: unknown): string {
  return JSON.stringify(value, (_name, one: unknown) =>
    typeof one === 'object' && one !== null && !Array.isArray(one)
      ? Object.fromEntries(Object.entries(one).sort(([left], [right]) => (left < right ? -1 : 1)))
      : one,
  );
}

interface EntryOfCommit
  extends Pick<RecordedChange, 'seq' | 'revision' | 'event_id' | 'recorded_at' | 'action' | 'actor'> {
  changes: { op: 'put' | 'merge' | 'delete'; name: string; value?: unknown; revision?: number }[];
}

/** Derives the histories of all documents from the entries of a trail that tells every change, newest first. */
function historiesOf(trail: EntryOfCommit[]): Map<string, RecordedChange[]> {
  const values = new Map<string, unknown>();
  const histories = new Map<string, RecordedChange[]>();
  for (const { seq, revision, event_id, recorded_at, action, actor, changes } of trail) {
    for (const change of changes) {
      const { op, name } = change;
      const value = op === 'merge' ? mergePatch(values.get(name), change.value) : change.value;
      if (op === 'delete') values.delete(name);
      else values.set(name, value);
      const sha256 = op === 'delete' ? null : createHash('sha256').update(canonicalText(value)).digest('hex');
      const common = { seq, revision: change.revision ?? revision, event_id, recorded_at, action, actor };
      histories.set(name, [{ ...common, op, sha256 }, ...(histories.get(name) ?? [])]);
    }
  }
  return histories;
}

/**
 * Asserts that the history of each document has what the entries say, and that the trail by document has these entries
 * and the restores and undos that list the document.
 */
export async function expectHistories(node: TestStore): Promise<void> {
  const trail = await trailOf(node);
  for (const [name, history] of historiesOf(trail as unknown as EntryOfCommit[])) {
    const found: RecordedChange[] = [];
    for (let before: number | null = Number.MAX_SAFE_INTEGER; before !== null; ) {
      const page = await node.store.readHistory(name, { before, limit: 3 });
      found.push(...(page?.history ?? []));
      before = page?.next ?? null;
    }
    expect(found).toEqual(history);
    const listing = trail.filter((entry) => {
      const { document_names: names } = (entry[entry.action] ?? {}) as { document_names?: Record<string, unknown> };
      return Object.values(names ?? {}).some((list) => Array.isArray(list) && list.includes(name));
    });
    const { entries } = await node.store.readAudit({ document: name, limit: 1_000, order: 'asc' });
    const expected = new Set([...history, ...listing].map(({ seq }) => seq));
    expect(entries.map(({ seq }) => seq)).toEqual([...expected].sort((left, right) => left - right));
  }
  expect(await node.store.readHistory('never a document of a test', { limit: 1 })).toBeUndefined();
}
