import { randomBytes } from 'node:crypto';

const FIRST_CAPACITY = 4096;

/** Makes fingerprints differ in each process, so that nobody can prepare values with the same fingerprint. */
const seed = randomBytes(8);
const [SEED_LOW, SEED_HIGH] = [seed.readUInt32LE(0) | 1, seed.readUInt32LE(4) | 1];

/**
 * Returns a whole number below 2^53 for a text. Texts with different numbers differ; with the same number, they are
 * equal except by chance, which is far below one in a million for a million texts.
 */
export function fingerprintOf(text: string): number {
  let low = SEED_LOW;
  let high = SEED_HIGH;
  for (let index = 0; index < text.length; index += 1) {
    const unit = text.charCodeAt(index);
    low = Math.imul(low ^ unit, 0x85ebca6b);
    high = Math.imul(high ^ unit, 0xc2b2ae35);
    low ^= low >>> 15;
    high ^= high >>> 13;
  }
  low = Math.imul(low ^ (high >>> 16), 0x27d4eb2f);
  high = Math.imul(high ^ (low >>> 15), 0x165667b1);
  return ((high ^ (high >>> 14)) >>> 11) * 2 ** 32 + ((low ^ (low >>> 16)) >>> 0);
}

/** Number of groups that are stored and sorted alone: sorting all of 3 million at once would block the event loop. */
const GROUPS = 64;
const GROWTH = 1.25;

/** Collects fingerprints, with 8 bytes for each. */
export interface Fingerprints {
  add(fingerprint: number): void;
  /** Returns the memory in use, in bytes. */
  heldBytes(): number;
  /** Returns those that were added more than once. Ends the collection. Awaits `pause` after each group. */
  repeated(pause: () => Promise<void>): Promise<Set<number>>;
}

export function createFingerprints(): Fingerprints {
  const groups = Array.from({ length: GROUPS }, () => new Float64Array(FIRST_CAPACITY / GROUPS));
  const counts = new Uint32Array(GROUPS);
  let heldBytes = FIRST_CAPACITY * Float64Array.BYTES_PER_ELEMENT;

  function grow(full: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
    const larger = new Float64Array(Math.ceil(full.length * GROWTH));
    larger.set(full);
    heldBytes += larger.byteLength - full.byteLength;
    return larger;
  }

  return {
    add: (fingerprint) => {
      const place = fingerprint % GROUPS;
      const count = counts[place] as number;
      const full = groups[place] as Float64Array<ArrayBuffer>;
      const group = count < full.length ? full : grow(full);
      group[count] = fingerprint;
      groups[place] = group;
      counts[place] = count + 1;
    },
    heldBytes: () => heldBytes,
    repeated: async (pause) => {
      const repeated = new Set<number>();
      for (const [place, group] of groups.entries()) {
        const sorted = group.subarray(0, counts[place]).sort();
        for (let index = 1; index < sorted.length; index += 1) {
          if (sorted[index] === sorted[index - 1]) repeated.add(sorted[index] as number);
        }
        groups[place] = new Float64Array(0);
        await pause();
      }
      return repeated;
    },
  };
}
