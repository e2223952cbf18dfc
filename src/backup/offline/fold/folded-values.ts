import type { ValueText } from '../../../json/merge-patch.ts';

/** Memory of a value in addition to its bytes. */
const VALUE_OVERHEAD_BYTES = 256;
/** Room for growth in the buffer of a merged value. */
const SPARE_BYTES = 64;

/** Holds the values of documents that changed last, as far as they fit into `maxBytes`. */
export interface FoldedValues {
  /** Returns the value of a document, valid until the next `set`. */
  get(name: string): ValueText | undefined;
  /** Keeps a copy. `mayGrow` tells that changes of the value will follow. */
  set(name: string, value: Buffer, mayGrow: boolean): void;
  delete(name: string): void;
  clear(): void;
}

interface Held {
  /** A string has a character for each byte, and costs less than a small buffer, but cannot be overwritten. */
  value: Buffer | string;
  /** A buffer may have more bytes than the value. */
  length: number;
  /** Whether it changed since `makeRoom` looked at it. */
  isRecent: boolean;
}

export function createFoldedValues(maxBytes: number): FoldedValues {
  /** In the order in which `makeRoom` looks at them. */
  const values = new Map<string, Held>();
  let bytes = 0;

  function remove(name: string): void {
    const held = values.get(name);
    if (held === undefined) return;
    bytes -= held.value.length + VALUE_OVERHEAD_BYTES;
    values.delete(name);
  }

  /**
   * Removes a quarter, or more: one by one, a Map would pass over all removed members each time. A value that changed
   * since the last look gets a second chance, which costs less than to move it at each change.
   */
  function makeRoom(size: number): void {
    for (const [name, held] of values) {
      if (bytes <= Math.min(0.75 * maxBytes, maxBytes - size)) return;
      if (held.isRecent) {
        held.isRecent = false;
        values.delete(name);
        values.set(name, held);
      } else {
        remove(name);
      }
    }
  }

  return {
    get: (name) => {
      const held = values.get(name);
      if (held === undefined) return undefined;
      const { value, length } = held;
      return { bytes: typeof value === 'string' ? Buffer.from(value, 'latin1') : value, length };
    },
    set: (name, value, mayGrow) => {
      const held = values.get(name);
      if (held !== undefined && typeof held.value !== 'string' && value.length <= held.value.length) {
        // Most changes of a document end here, without garbage.
        value.copy(held.value);
        held.length = value.length;
        held.isRecent = true;
        return;
      }
      remove(name);
      const size = value.length + VALUE_OVERHEAD_BYTES + (mayGrow ? SPARE_BYTES : 0);
      if (size > maxBytes) return;
      if (bytes + size > maxBytes) makeRoom(size);
      const copy = mayGrow ? copyWithRoom(value) : value.toString('latin1');
      values.set(name, { value: copy, length: value.length, isRecent: false });
      bytes += size;
    },
    delete: remove,
    clear: () => {
      values.clear();
      bytes = 0;
    },
  };
}

function copyWithRoom(value: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(value.length + SPARE_BYTES);
  value.copy(copy);
  return copy;
}
