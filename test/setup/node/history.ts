import type { TestStore } from './store.ts';

/** One audit entry as JSON.parse gives it, its hash among its members. */
export type Entry = Record<string, unknown> & { seq: number; hash: string; action: string };

/** The whole trail of a node's state, oldest first. */
export async function trailOf({ store }: TestStore): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (let after: number | null = 0; after !== null; ) {
    const page = await store.readAudit({ after, limit: 1_000, order: 'asc' });
    entries.push(...page.entries.map(({ text }) => JSON.parse(text) as Entry));
    after = page.next;
  }
  return entries;
}

/** The originals that a trail holds inside its `audit.import` entries. */
export function importedOf(trail: Entry[]): Entry[] {
  return trail
    .filter(({ action }) => action === 'audit.import')
    .map((entry) => (entry.import as { original: Entry }).original);
}

/** The entries of `wanted` that `trail` holds neither as they are nor as an import. */
export function lostOf(wanted: Entry[], trail: Entry[]): Entry[] {
  const held = new Set([...trail, ...importedOf(trail)].map((entry) => sorted(entry)));
  return wanted.filter((entry) => !held.has(sorted(entry)));
}

function sorted(value: unknown): string {
  return JSON.stringify(value, (_name, one: unknown) =>
    typeof one === 'object' && one !== null && !Array.isArray(one)
      ? Object.fromEntries(Object.entries(one).sort(([left], [right]) => (left < right ? -1 : 1)))
      : one,
  );
}
