import { pointerToken } from '../pointer.ts';
import { createNameIndex } from './name-index.ts';
import type { TextOutput } from './text-output.ts';

/** The open containers inside a captured or skipped value. See `VisitStack` for the containers around it. */
export interface CaptureStack {
  reset(): void;
  enter(object: boolean): void;
  leave(): void;
  /** Moves on, after a comma, to the next member or element of the innermost container. */
  next(): void;
  /** Takes the name of the current member, which lies between the two positions of the output, without quotes. */
  nameEnded(start: number, end: number): void;
  /** Adds that name to the names of its object. Returns false if the object has it already. See `NameIndex.add`. */
  addName(chunk: Buffer, position: number): boolean;
  readonly depth: number;
  readonly inObject: boolean;
  /** Returns a JSON pointer from the captured value to the current place. The output's span must be cut. */
  pointer(): string;
}

export function createCaptureStack(output: TextOutput): CaptureStack {
  const names = createNameIndex(output);
  const objects: boolean[] = [];
  /** For an object: where the current name is in the output, -1 before the first. For an array: the index. */
  const firsts: number[] = [];
  const seconds: number[] = [];
  let depth = 0;

  function nameAt(level: number): string {
    const text = output.bytes.toString('utf8', firsts[level], seconds[level]);
    return String(JSON.parse(`"${text}"`));
  }

  return {
    reset() {
      depth = 0;
      names.reset();
    },
    enter(object) {
      objects[depth] = object;
      firsts[depth] = object ? -1 : 0;
      seconds[depth] = -1;
      depth += 1;
      if (object) names.enter();
    },
    leave() {
      depth -= 1;
      if (objects[depth]) names.leave();
    },
    next() {
      const level = depth - 1;
      firsts[level] = objects[level] ? -1 : (firsts[level] as number) + 1;
    },
    nameEnded(start, end) {
      firsts[depth - 1] = start;
      seconds[depth - 1] = end;
    },
    addName(chunk, position) {
      return names.add(firsts[depth - 1] as number, seconds[depth - 1] as number, chunk, position);
    },
    get depth() {
      return depth;
    },
    get inObject() {
      return objects[depth - 1] === true;
    },
    pointer() {
      let pointer = '';
      for (let level = 0; level < depth && firsts[level] !== -1; level += 1) {
        pointer += pointerToken(objects[level] ? nameAt(level) : String(firsts[level]));
      }
      return pointer;
    },
  };
}
