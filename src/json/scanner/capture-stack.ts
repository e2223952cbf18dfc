import { pointerToken } from '../pointer.ts';
import { createNameIndex } from './name-index.ts';
import type { TextOutput } from './text-output.ts';

/** Tracks the open containers inside a captured or skipped value. `VisitStack` tracks the containers around it. */
export interface CaptureStack {
  reset(): void;
  enter(object: boolean): void;
  leave(): void;
  /** Moves to the next member or element of the innermost container, after a comma. */
  next(): void;
  /** Sets the name of the current member. `start` and `end` are its positions in the output, without quotes. */
  setName(start: number, end: number): void;
  /** Adds that name to the names of its object. Returns false for a duplicate. See `NameIndex.add`. */
  addName(chunk: Buffer, position: number): boolean;
  /** Returns the approximate memory for the names, in bytes. */
  heldBytes(): number;
  depth(): number;
  inObject(): boolean;
  /** Returns the JSON pointer from the captured value to the current place. The output must have no open span. */
  pointer(): string;
}

export function createCaptureStack(output: TextOutput): CaptureStack {
  const names = createNameIndex(output);
  const objects: boolean[] = [];
  /** By level: for an object the start of the current name, -1 before a name; for an array the current index. */
  const startsOrIndexes: number[] = [];
  const ends: number[] = [];
  let depth = 0;

  function nameAt(level: number): string {
    const text = output.bytes.toString('utf8', startsOrIndexes[level], ends[level]);
    return String(JSON.parse(`"${text}"`));
  }

  return {
    reset() {
      depth = 0;
      names.reset();
    },
    enter(object) {
      objects[depth] = object;
      startsOrIndexes[depth] = object ? -1 : 0;
      ends[depth] = -1;
      depth += 1;
      if (object) names.enter();
    },
    leave() {
      depth -= 1;
      if (objects[depth]) names.leave();
    },
    next() {
      const level = depth - 1;
      startsOrIndexes[level] = objects[level] ? -1 : (startsOrIndexes[level] as number) + 1;
    },
    setName(start, end) {
      startsOrIndexes[depth - 1] = start;
      ends[depth - 1] = end;
    },
    addName(chunk, position) {
      return names.add(startsOrIndexes[depth - 1] as number, ends[depth - 1] as number, chunk, position);
    },
    heldBytes: names.heldBytes,
    depth: () => depth,
    inObject: () => objects[depth - 1] === true,
    pointer() {
      let pointer = '';
      for (let level = 0; level < depth && startsOrIndexes[level] !== -1; level += 1) {
        pointer += pointerToken(objects[level] ? nameAt(level) : String(startsOrIndexes[level]));
      }
      return pointer;
    },
  };
}
