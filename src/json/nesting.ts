import { createNameIndex } from './name-index.ts';
import type { SpanOutput } from './output.ts';
import { pointerToken } from './pointer.ts';

/** The open containers of one capture: how deep it is, where in it, and which names its objects have. */
export interface Nesting {
  reset(): void;
  enter(object: boolean): void;
  leave(): void;
  /** A comma: the next member or element of the innermost container. */
  next(): void;
  /** The name of a member has ended; its text lies between the two positions, without quotes. */
  nameEnded(start: number, end: number): void;
  /** Adds the name that ended last to those of its object; false when it has it already. See `NameIndex.add`. */
  addName(chunk: Buffer, position: number): boolean;
  readonly depth: number;
  readonly inObject: boolean;
  /** JSON pointer to where reading stands, from the captured value. The output's span must be cut. */
  pointer(): string;
}

export function createNesting(output: SpanOutput): Nesting {
  const names = createNameIndex(output);
  const objects: boolean[] = [];
  /** For an object: text positions of the current member's name, -1 when there is none yet. For an array: the index. */
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
