import { digestMismatch, duplicateDigest, duplicateDocument } from '../check/faults.ts';
import { createStateDigest } from '../format/digests.ts';
import { canonicalSha256, decodeAll, type OpenBackup } from './read.ts';

interface Pair {
  name: string;
  bytes: Buffer;
  documents: number;
  digests: number;
  document: string | undefined;
  digest: string | undefined;
}

/**
 * Compares documents and digests in any order, and returns the digest of the state. Each reading of the backup takes
 * the next `window` names in byte order, so memory does not grow with the backup. Throws the first fault in a restore's
 * order: a repeated document, a repeated digest, then the first mismatch.
 */
export async function checkByWindows(open: OpenBackup, window: number): Promise<string> {
  const state = createStateDigest();
  let repeatedDigest: string | undefined;
  let mismatch: { name: string; fault: 'lost' | 'added' | 'changed' } | undefined;
  let after: Buffer | undefined;
  for (;;) {
    const { pairs, complete } = await readWindow(open, after, window);
    for (const pair of pairs) {
      if (pair.documents > 1) throw duplicateDocument('', pair.name);
      if (pair.digests > 1) repeatedDigest ??= pair.name;
      const fault = mismatchOf(pair);
      if (fault !== undefined) mismatch ??= { name: pair.name, fault };
      if (pair.document !== undefined) state.add(pair.bytes, Buffer.from(pair.document, 'hex'));
    }
    after = pairs.at(-1)?.bytes;
    if (complete) break;
  }
  if (repeatedDigest !== undefined) throw duplicateDigest('', repeatedDigest);
  if (mismatch !== undefined) throw digestMismatch('', mismatch.name, mismatch.fault);
  return state.end();
}

function mismatchOf({ document, digest }: Pair): 'lost' | 'added' | 'changed' | undefined {
  if (document === digest) return undefined;
  if (document === undefined) return 'lost';
  return digest === undefined ? 'added' : 'changed';
}

/** Reads the next `size` names after `after`, in byte order. */
async function readWindow(
  open: OpenBackup,
  after: Buffer | undefined,
  size: number,
): Promise<{ pairs: Pair[]; complete: boolean }> {
  const window = new Map<string, Pair>();
  /** The last name that the window accepts, once it was full. */
  let bound: Buffer | undefined;

  function pairOf(name: string): Pair | undefined {
    const known = window.get(name);
    if (known !== undefined) return known;
    const bytes = Buffer.from(name);
    if (after !== undefined && Buffer.compare(bytes, after) <= 0) return undefined;
    if (bound !== undefined && Buffer.compare(bytes, bound) > 0) return undefined;
    const pair: Pair = { name, bytes, documents: 0, digests: 0, document: undefined, digest: undefined };
    window.set(name, pair);
    if (window.size < 2 * size) return pair;
    for (const late of inOrder(window).slice(size)) window.delete(late.name);
    bound = inOrder(window).at(-1)?.bytes;
    return window.has(name) ? pair : undefined;
  }

  await decodeAll(open, (item) => {
    if (item.kind === 'entry') return;
    const pair = pairOf(item.name);
    if (pair === undefined) return;
    if (item.kind === 'document') {
      pair.documents += 1;
      pair.document = canonicalSha256(item).toString('hex');
    } else {
      pair.digests += 1;
      pair.digest = item.sha256;
    }
  });
  return { pairs: inOrder(window), complete: bound === undefined };
}

function inOrder(window: Map<string, Pair>): Pair[] {
  return [...window.values()].sort((one, other) => Buffer.compare(one.bytes, other.bytes));
}
