import { canonicalText } from '../../json/canonical.ts';
import type { EntryMembers } from '../check/entry-forms.ts';
import { sha256 } from '../format/digests.ts';
import { documentSha256, readEntries } from './read.ts';
import type { Trail } from './trail.ts';

export interface Found {
  /** Number of entries that the trail has as imports. */
  imported: number;
  /** Seq of the first required entry that was not found. */
  lost: number | undefined;
}

export interface Wanted {
  /** Entries of `earlier` from this seq on. */
  from: number;
  /** Entries up to this seq are optional, and counted when found. */
  excusedTo: number;
  /** Number of entries to look for in one reading of the file. */
  window: number;
}

/**
 * Looks for entries of `earlier` inside the `audit.import` entries of `file`, by their whole content. If `earlier` has
 * no entries, looks for the hash of its head. Reads `file` once for each window, so memory does not grow.
 */
export async function findImported(file: Trail, earlier: Trail, { from, excusedTo, window }: Wanted): Promise<Found> {
  let imported = 0;
  for await (const wanted of readWindows(earlier, from, window)) {
    imported += await strikeOut(file, wanted);
    for (const { seq } of wanted.values()) if (seq > excusedTo) return { imported, lost: seq };
  }
  return { imported, lost: undefined };
}

/** Entries by hash, in the order of their seq. Without `sha256`, only hash and seq are compared. */
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
    window.set(String(hash), { seq: Number(seq), sha256: documentSha256(text).toString('hex') });
    if (window.size < size) continue;
    yield window;
    window = new Map();
  }
  if (window.size > 0) yield window;
}

/** Removes from `wanted` what the file has as imports, and returns how many that were. */
async function strikeOut(file: Trail, wanted: Window): Promise<number> {
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

/** Yields the imported entry; if that is an import too, also its original, and so on. */
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
