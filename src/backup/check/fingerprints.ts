/** Collects fingerprints of 8 bytes, to find out whether a value may occur twice without keeping the values. */
export interface Fingerprints {
  /** Adds a value. `kind` keeps values of different kinds apart. */
  add(kind: number, value: string): void;
  /** Returns the memory of the fingerprints, in bytes. */
  heldBytes(): number;
  /**
   * Returns whether two values have the same fingerprint. Different values rarely do, but the caller then looks for the
   * values themselves. Call this last, because it reorders the fingerprints. Awaits `pause` after each partition.
   */
  hasRepeat(pause: () => Promise<void> | undefined): Promise<boolean>;
}

/** Number of partitions. Each is sorted alone: of 3 million values, in two milliseconds. */
const PARTITIONS = 256;
const FIRST_CAPACITY = 16;
const GROWTH = 1.25;

export function createFingerprints(): Fingerprints {
  const partitions = Array.from({ length: PARTITIONS }, () => new Float64Array(FIRST_CAPACITY));
  const counts = new Uint32Array(PARTITIONS);
  let heldBytes = PARTITIONS * FIRST_CAPACITY * Float64Array.BYTES_PER_ELEMENT;

  function grow(partition: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
    const larger = new Float64Array(Math.ceil(partition.length * GROWTH));
    larger.set(partition);
    heldBytes += larger.byteLength - partition.byteLength;
    return larger;
  }

  return {
    add: (kind, value) => {
      // Two FNV-1a hashes with different starts and primes.
      let low = 0x811c9dc5 ^ kind;
      let high = 0x2f0b4c47 + kind;
      for (let index = 0; index < value.length; index += 1) {
        const unit = value.charCodeAt(index);
        low = Math.imul(low ^ unit, 0x01000193);
        high = Math.imul(high ^ unit, 0x5bd1e995);
        high ^= high >>> 15;
      }
      const place = high & (PARTITIONS - 1);
      const count = counts[place] as number;
      const full = partitions[place] as Float64Array<ArrayBuffer>;
      const partition = count < full.length ? full : grow(full);
      partitions[place] = partition;
      // A double has 53 bits for these. The partition tells 8 more.
      partition[count] = (low >>> 0) * 0x200000 + (high >>> 11);
      counts[place] = count + 1;
    },
    heldBytes: () => heldBytes,
    hasRepeat: async (pause) => {
      for (const [place, partition] of partitions.entries()) {
        const sorted = partition.subarray(0, counts[place]).sort();
        for (let index = 1; index < sorted.length; index += 1) if (sorted[index] === sorted[index - 1]) return true;
        await pause();
      }
      return false;
    },
  };
}
