import { createHash, hash } from 'node:crypto';
import { GENESIS_HASH } from '../../domain/audit.ts';
import type { BackupManifest } from '../../domain/backup.ts';
import { canonicalText } from '../../json/canonical.ts';

const HASH_BYTES = 32;
const OPENING_BRACE = 0x7b;
/** Bounds the input of a hash that is joined first, because one call of the library costs more than a short copy. */
const JOINED_BYTES = 64 * 1024;
/** Where the name of an entry's first member is put. The beginning of an entry with its hash fits before it. */
const JOINED_HEAD = 128;
const joined = Buffer.alloc(JOINED_HEAD + JOINED_BYTES);
/** Views of it by their length. To make one for each short entry would cost as much as to hash it. */
const joinedViews: Buffer[] = [];
const MAX_VIEW_BYTES = 2048;
/** Number of documents whose digests are passed to the library together. */
const BATCH_DOCUMENTS = 64;

/**
 * Computes the digest of a state: sha256 over sha256(name) ‖ sha256(canonical text) of each document, in byte order of
 * the names. These digests have a fixed length, so two different states never produce the same input. PostgreSQL stores
 * the digest of each text.
 */
export interface StateDigest {
  add(name: Buffer, valueSha256: Buffer): void;
  /** As `add`, with the digest in hex. */
  addHex(name: Buffer, valueSha256: string): void;
  /** Lower-case hex. */
  end(): string;
}

export function createStateDigest(): StateDigest {
  const digest = createHash('sha256');
  const batch = Buffer.alloc(BATCH_DOCUMENTS * 2 * HASH_BYTES);
  let length = 0;

  function addName(name: Buffer): void {
    if (length === batch.length) flush();
    length += batch.write(sha256Hex(name), length, 'hex');
  }

  function flush(): void {
    digest.update(batch.subarray(0, length));
    length = 0;
  }

  return {
    add: (name, valueSha256) => {
      addName(name);
      length += valueSha256.copy(batch, length);
    },
    addHex: (name, valueSha256) => {
      addName(name);
      length += batch.write(valueSha256, length, 'hex');
    },
    end: () => {
      flush();
      return digest.digest('hex');
    },
  };
}

/** Checks the links of a chain entry by entry. */
export interface ChainCheck {
  /** `text` is the canonical text of the entry, without its hash; both hashes are lower-case hex. */
  add(seq: number, hash: string, text: Buffer): void;
  isValid(): boolean;
  /** Seq of the first wrong or missing entry; null while the chain is valid. */
  firstBadSeq(): number | null;
  last(): { seq: number; hash: string };
}

/** Creates a check that starts after the given entry. A complete chain starts after entry 0, the genesis hash. */
export function createChainCheck(after: { seq: number; hash: string } = { seq: 0, hash: GENESIS_HASH }): ChainCheck {
  let last = after;
  let firstBadSeq: number | null = null;
  return {
    add: (seq, hash, text) => {
      const isLinked = seq === last.seq + 1 && chainHash(last.hash, text) === hash;
      if (!isLinked) firstBadSeq ??= last.seq + 1;
      last = { seq, hash };
    },
    isValid: () => firstBadSeq === null,
    firstBadSeq: () => firstBadSeq,
    last: () => last,
  };
}

/**
 * Returns `sha256(previous hash ‖ utf8(entry::text))`. Both hashes are lower-case hex. With `from`, the text of the
 * entry is an opening brace and `text` from there on, where the name of its first member begins.
 */
export function chainHash(previousHash: string, text: Buffer, from?: number): string {
  const nameStart = from ?? 1;
  const length = HASH_BYTES + 1 + text.length - nameStart;
  if (nameStart > JOINED_HEAD || length > JOINED_BYTES) {
    const whole = createHash('sha256').update(previousHash, 'hex');
    return (from === undefined ? whole : whole.update('{')).update(text.subarray(from)).digest('hex');
  }
  // Node copies a whole buffer faster than a part of it. What precedes the name of the first member is overwritten.
  text.copy(joined, JOINED_HEAD - nameStart);
  if (from !== undefined) joined[JOINED_HEAD - 1] = OPENING_BRACE;
  joined.write(previousHash, JOINED_HEAD - 1 - HASH_BYTES, 'hex');
  return hash('sha256', joinedView(length), 'hex');
}

function joinedView(length: number): Buffer {
  const start = JOINED_HEAD - 1 - HASH_BYTES;
  if (length > MAX_VIEW_BYTES) return joined.subarray(start, start + length);
  joinedViews[length] ??= joined.subarray(start, start + length);
  return joinedViews[length];
}

/**
 * Returns the digest of header and manifest, unknown members included: sha256 over the canonical text of
 * `{"header": …, "manifest": …}` without the manifest's own `sha256`. Other digests cover the rest of a backup.
 */
export function manifestDigest(header: Record<string, unknown>, manifest: Omit<BackupManifest, 'sha256'>): string {
  const covered = Object.entries(manifest).filter(([name]) => name !== 'sha256');
  const text = canonicalText({ header, manifest: Object.fromEntries(covered) });
  return sha256(Buffer.from(text)).toString('hex');
}

export function sha256(bytes: Buffer): Buffer {
  return hash('sha256', bytes, 'buffer');
}

export function sha256Hex(bytes: Buffer): string {
  return hash('sha256', bytes, 'hex');
}
