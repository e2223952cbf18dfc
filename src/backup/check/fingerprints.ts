import { randomBytes } from 'node:crypto';

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

/** Number of groups that are sorted alone: sorting all of 3 million at once would block the event loop. */
const GROUPS = 256;
/** Fingerprints of a block. A growing array would leave its smaller copies to the garbage collection. */
const BLOCK = 256;
/**
 * Fingerprints that are allocated at once, 1 MiB. Blocks of their own would lie between the short-lived buffers of a
 * stream, and keep the allocator from giving memory back.
 */
const SLAB = 512 * BLOCK;

/** Collects fingerprints, with 8 bytes for each. */
export interface Fingerprints {
  add(fingerprint: number): void;
  /** Returns the memory in use, in bytes. */
  heldBytes(): number;
  /** Returns those that were added more than once. Ends the collection. Awaits `pause` after each group. */
  repeated(pause: () => Promise<void>): Promise<Set<number>>;
}

export function createFingerprints(): Fingerprints {
  const groups: Float64Array[][] = Array.from({ length: GROUPS }, () => []);
  /** By group: the number of fingerprints, and the block that is not full yet. */
  const counts = new Uint32Array(GROUPS);
  const open: Float64Array[] = [];
  let slab = new Float64Array(0);
  let blocks = 0;

  function createBlock(): Float64Array {
    const start = (blocks * BLOCK) % SLAB;
    if (start === 0) slab = new Float64Array(SLAB);
    blocks += 1;
    return slab.subarray(start, start + BLOCK);
  }

  return {
    add: (fingerprint) => {
      // The remainder of the low half is the same, and faster.
      const group = (fingerprint >>> 0) % GROUPS;
      const count = counts[group] as number;
      if (count % BLOCK === 0) {
        open[group] = createBlock();
        groups[group]?.push(open[group]);
      }
      (open[group] as Float64Array)[count % BLOCK] = fingerprint;
      counts[group] = count + 1;
    },
    heldBytes: () => blocks * BLOCK * Float64Array.BYTES_PER_ELEMENT,
    repeated: async (pause) => {
      const repeated = new Set<number>();
      // One for all groups: an array for each would wait for the garbage collection.
      const room = new Float64Array(counts.reduce((most, count) => Math.max(most, count), 0));
      for (const [group, parts] of groups.entries()) {
        const sorted = join(parts, room.subarray(0, counts[group])).sort();
        for (let index = 1; index < sorted.length; index += 1) {
          if (sorted[index] === sorted[index - 1]) repeated.add(sorted[index] as number);
        }
        groups[group] = [];
        await pause();
      }
      return repeated;
    },
  };
}

/** Copies the fingerprints of full blocks, and of one that need not be full, into `target`. Returns it. */
function join(blocks: Float64Array[], target: Float64Array): Float64Array {
  for (const [index, block] of blocks.entries()) {
    const start = index * BLOCK;
    target.set(block.subarray(0, target.length - start), start);
  }
  return target;
}
