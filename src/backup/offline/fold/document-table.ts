import { fingerprintOf } from '../../check/fingerprints.ts';

const FIRST_CAPACITY = 4096;
const MAX_LOAD = 0.7;

/** What the trail says last about a document. */
export const LAST = { nothing: 0, deleted: 1, present: 2, presentWithDigest: 3 } as const;

/**
 * Holds for each document what the backup has and what its trail says last, in 43 to 86 bytes: a row has 30, and at
 * least a third of the rows is in use. While it grows, it needs half as much again. It holds fingerprints instead of
 * names, and the first 64 bits of digests. A row is a position in the columns until the next `rowOf`.
 */
export class DocumentTable {
  private capacity = FIRST_CAPACITY;
  private used = 0;
  private fingerprints = new Float64Array(FIRST_CAPACITY);
  private hasDocument = new Uint8Array(FIRST_CAPACITY);
  private last = new Uint8Array(FIRST_CAPACITY);
  /** Number of untold restores before the last change. */
  private era = new Uint32Array(FIRST_CAPACITY);
  /** By row: the start of the document's digest, then of the digest in the trail. */
  private digests = new Uint32Array(4 * FIRST_CAPACITY);

  /** Returns the row of a document, and creates it if necessary. */
  rowOf(name: string): number {
    if (this.used > MAX_LOAD * this.capacity) this.grow();
    // Zero marks a free row.
    return this.find(fingerprintOf(name) + 1);
  }

  setDocument(row: number, sha256: Buffer): void {
    this.hasDocument[row] = 1;
    this.digests[4 * row] = sha256.readUInt32BE(0);
    this.digests[4 * row + 1] = sha256.readUInt32BE(4);
  }

  /** `sha256` is in hex, for `LAST.presentWithDigest`. */
  setLast(row: number, last: number, era: number, sha256?: string): void {
    this.last[row] = last;
    this.era[row] = era;
    if (sha256 === undefined) return;
    this.digests[4 * row + 2] = wordOf(sha256, 0);
    this.digests[4 * row + 3] = wordOf(sha256, 8);
  }

  /** Returns what the trail says last about the document, and nothing if that was before `era`. */
  lastOf(row: number, era: number): number {
    return this.era[row] === era ? (this.last[row] as number) : LAST.nothing;
  }

  isInBackup(row: number): boolean {
    return this.hasDocument[row] === 1;
  }

  /** Returns whether the document has the digest that the trail says last. */
  isSame(row: number): boolean {
    const { digests } = this;
    return digests[4 * row] === digests[4 * row + 2] && digests[4 * row + 1] === digests[4 * row + 3];
  }

  /** Yields all rows in use. */
  *rows(): Generator<number> {
    for (let row = 0; row < this.capacity; row += 1) if (this.fingerprints[row] !== 0) yield row;
  }

  private find(fingerprint: number): number {
    const mask = this.capacity - 1;
    let row = (fingerprint % 2 ** 32) & mask;
    while (this.fingerprints[row] !== fingerprint) {
      if (this.fingerprints[row] === 0) {
        this.fingerprints[row] = fingerprint;
        this.used += 1;
        return row;
      }
      row = (row + 1) & mask;
    }
    return row;
  }

  private grow(): void {
    const { fingerprints, hasDocument, last, era, digests } = this;
    this.capacity *= 2;
    this.used = 0;
    this.fingerprints = new Float64Array(this.capacity);
    this.hasDocument = new Uint8Array(this.capacity);
    this.last = new Uint8Array(this.capacity);
    this.era = new Uint32Array(this.capacity);
    this.digests = new Uint32Array(4 * this.capacity);
    for (let old = 0; old < fingerprints.length; old += 1) {
      const fingerprint = fingerprints[old] as number;
      if (fingerprint === 0) continue;
      const row = this.find(fingerprint);
      this.hasDocument[row] = hasDocument[old] as number;
      this.last[row] = last[old] as number;
      this.era[row] = era[old] as number;
      this.digests.set(digests.subarray(4 * old, 4 * old + 4), 4 * row);
    }
  }
}

/** Reads 8 lower-case hex digits, faster than `Number.parseInt`. */
function wordOf(hex: string, start: number): number {
  let word = 0;
  for (let index = start; index < start + 8; index += 1) {
    const code = hex.charCodeAt(index);
    word = word * 16 + (code <= NINE ? code - ZERO : code - LETTER_A + 10);
  }
  return word;
}

const [ZERO, NINE, LETTER_A] = [0x30, 0x39, 0x61];
