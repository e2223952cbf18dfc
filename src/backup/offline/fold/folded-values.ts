/** Memory of a value in addition to its bytes. */
const VALUE_OVERHEAD_BYTES = 256;

/** Holds the values of documents that changed last, as far as they fit into `maxBytes`. */
export interface FoldedValues {
  get(name: string): Buffer | undefined;
  /** Keeps the value, not a copy. A string has a character for each byte, and costs less than a small buffer. */
  set(name: string, value: Buffer | string): void;
  delete(name: string): void;
  clear(): void;
}

export function createFoldedValues(maxBytes: number): FoldedValues {
  /** In the order of their last change. */
  const values = new Map<string, Buffer | string>();
  let bytes = 0;

  function remove(name: string): void {
    const value = values.get(name);
    if (value === undefined) return;
    bytes -= value.length + VALUE_OVERHEAD_BYTES;
    values.delete(name);
  }

  /** Removes the oldest quarter, or more. One by one, a Map would pass over all removed members each time. */
  function makeRoom(size: number): void {
    for (const oldest of values.keys()) {
      if (bytes <= Math.min(0.75 * maxBytes, maxBytes - size)) return;
      remove(oldest);
    }
  }

  return {
    get: (name) => {
      const value = values.get(name);
      return typeof value === 'string' ? Buffer.from(value, 'latin1') : value;
    },
    set: (name, value) => {
      remove(name);
      const size = value.length + VALUE_OVERHEAD_BYTES;
      if (size > maxBytes) return;
      if (bytes + size > maxBytes) makeRoom(size);
      values.set(name, value);
      bytes += size;
    },
    delete: remove,
    clear: () => {
      values.clear();
      bytes = 0;
    },
  };
}
