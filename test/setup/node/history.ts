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
