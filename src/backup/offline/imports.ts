import { canonicalText } from '../../json/canonical.ts';
import type { EntryMembers } from '../check/entry-forms.ts';
import { sha256 } from '../format/digests.ts';
import { canonicalSha256, readEntries } from './read.ts';
import type { Trail } from './trail.ts';

export interface Found {
  /** Number of entries found inside imports. */
  imported: number;
  /** Seq of the first missing entry after `explainedTo`. */
  lost: number | undefined;
}

export interface Wanted {
  /** Seq of the first entry of `earlier` to search for. */
  from: number;
  /** A restore explains the loss of entries up to this seq. They are counted if found. */
  explainedTo: number;
  /** Number of entries to search for in one reading of the file. */
  window: number;
}

/**
 * Searches the `audit.import` entries of `file` for entries of `earlier`, and compares whole contents. If `earlier` has
 * no entries, searches for the hash of its head. Reads `file` once for each window, so memory does not grow.
 */
export async function findImported(file: Trail, earlier: Trail, { from, explainedTo, window }: Wanted): Promise<Found> {
  let imported = 0;
  for await (const wanted of readWindows(earlier, from, window)) {
    imported += await removeImported(file, wanted);
    for (const { seq } of wanted.values()) if (seq > explainedTo) return { imported, lost: seq };
  }
  return { imported, lost: undefined };
}

/** Maps hashes to entries in the order of their seq. Without `sha256`, only hash and seq are compared. */
type Window = Map<string, { seq: number; sha256?: string }>;

async function* readWindows({ open, manifest }: Trail, from: number, size: number): AsyncGenerator<Window> {
  if (manifest.audit_first === null) {
    yield new Map([[manifest.audit_head.hash, { seq: manifest.audit_head.seq }]]);
    return;
  }
  let window: Window = new Map();
  for await (const text of readEntries(open)) {
    const { seq, hash } = JSON.parse(text.toString('utf8')) as EntryMembers;
    if (Number(seq) < from) continue;
    window.set(String(hash), { seq: Number(seq), sha256: canonicalSha256({ text }).toString('hex') });
    if (window.size < size) continue;
    yield window;
    window = new Map();
  }
  if (window.size > 0) yield window;
}

/** Removes the entries from `wanted` that the file has as imports. Returns their number. */
async function removeImported(file: Trail, wanted: Window): Promise<number> {
  const before = wanted.size;
  for await (const text of readEntries(file.open)) {
    if (wanted.size === 0) break;
    for (const original of originalsOf(JSON.parse(text.toString('utf8')))) {
      const hash = String(original.hash);
      const entry = wanted.get(hash);
      if (entry === undefined) continue;
      const isSame = entry.sha256 === undefined ? original.seq === entry.seq : entry.sha256 === digestOf(original);
      if (isSame) wanted.delete(hash);
    }
  }
  return before - wanted.size;
}

/** Yields the entry inside an import; if that is also an import, the entry inside it, and so on. */
function* originalsOf(entry: unknown): Generator<EntryMembers> {
  let one = entry as EntryMembers & { import?: { original?: unknown } };
  while (one.action === 'audit.import') {
    const original = one.import?.original;
    if (typeof original !== 'object' || original === null) return;
    one = original;
    yield one;
  }
}

function digestOf(original: EntryMembers): string {
  return sha256(Buffer.from(canonicalText(original))).toString('hex');
}
