import type { TextOutput } from './text-output.ts';

/** Bounds the names of an object that are compared one by one. For so few, a Set of strings costs more. */
const NAMES_WITHOUT_SET = 32;

export interface NameIndex {
  /** Begins a nested object. */
  enter(): void;
  leave(): void;
  /**
   * Adds a name to the innermost object. Returns false for a duplicate. `start` and `end` are the positions of the name
   * in the output, where different escapes of one name are equal. Its last bytes may still be in the open span of
   * `chunk`, which ends at `position`.
   */
  add(start: number, end: number, chunk: Buffer, position: number): boolean;
  reset(): void;
  /** Returns the approximate memory of the Sets, in bytes. */
  heldBytes(): number;
}

/** Approximates the memory of one name in a Set, in addition to its characters. */
const SET_MEMBER_BYTES = 64;

/** Creates an index of the member names in the open objects. Stores positions in the output instead of copies. */
export function createNameIndex(output: TextOutput): NameIndex {
  const hashes: number[] = [];
  const starts: number[] = [];
  const ends: number[] = [];
  /** Number of elements in use in these three arrays. */
  let count = 0;
  /** By level: the index of its first name, and a Set once it has many names. */
  const firsts: number[] = [];
  const sets: (Set<string> | undefined)[] = [];
  /** By level: the memory of the Set, and of all together. */
  const setBytes: number[] = [];
  let heldBytes = 0;

  function add(start: number, end: number, chunk: Buffer, position: number): boolean {
    const level = firsts.length - 1;
    const first = firsts[level] as number;
    const set = sets[level];
    if (set !== undefined || count - first >= NAMES_WITHOUT_SET) {
      output.cut(chunk, position);
      return addToSet(level, set ?? moveToSet(level, first), start, end);
    }
    const hash = hashOf(start, end, chunk, position);
    for (let index = first; index < count; index += 1) {
      if (hashes[index] === hash && isName(index, start, end, chunk, position)) return false;
    }
    hashes[count] = hash;
    starts[count] = start;
    ends[count] = end;
    count += 1;
    return true;
  }

  function hashOf(start: number, end: number, chunk: Buffer, position: number): number {
    const inSpan = output.spanStart >= 0 && start >= output.length;
    if (!inSpan) output.cut(chunk, position);
    const bytes = inSpan ? chunk : output.bytes;
    const shift = inSpan ? output.spanStart - output.length : 0;
    let hash = end - start;
    for (let index = start + shift; index < end + shift; index += 1) {
      hash = Math.imul(hash ^ (bytes[index] as number), 0x01000193);
    }
    return hash & 0x3fffffff;
  }

  function isName(index: number, start: number, end: number, chunk: Buffer, position: number): boolean {
    output.cut(chunk, position);
    const { bytes } = output;
    return bytes.compare(bytes, starts[index], ends[index], start, end) === 0;
  }

  function addToSet(level: number, names: Set<string>, start: number, end: number): boolean {
    const before = names.size;
    names.add(output.bytes.toString('latin1', start, end));
    const bytes = SET_MEMBER_BYTES + end - start;
    setBytes[level] = (setBytes[level] as number) + bytes;
    heldBytes += bytes;
    return names.size > before;
  }

  function moveToSet(level: number, first: number): Set<string> {
    const names = new Set<string>();
    for (let index = first; index < count; index += 1) {
      addToSet(level, names, starts[index] as number, ends[index] as number);
    }
    sets[level] = names;
    return names;
  }

  return {
    add,
    enter() {
      firsts.push(count);
      sets.push(undefined);
      setBytes.push(0);
    },
    leave() {
      sets.pop();
      heldBytes -= setBytes.pop() ?? 0;
      count = firsts.pop() ?? 0;
    },
    reset() {
      firsts.length = 0;
      sets.length = 0;
      setBytes.length = 0;
      heldBytes = 0;
      count = 0;
    },
    heldBytes: () => heldBytes,
  };
}
