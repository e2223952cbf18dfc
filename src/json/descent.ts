import type { ErrorPlace } from '../errors.ts';
import { pointerToken } from './pointer.ts';
import type { ArrayVisit, JsonType, ObjectVisit, Visit } from './visit.ts';

/** The containers that the scanner has gone into, from the root inwards, and what their visits say of what is in them. */
export interface Descents {
  enter(visit: ObjectVisit | ArrayVisit): void;
  /** `offset` is that of the closing brace or bracket. */
  leave(offset: number): void;
  /** A comma: the next member or element. */
  next(): void;
  /** The name of a member has ended; false when the scanner is to find duplicates and this is one. */
  addName(name: string): boolean;
  /** Asks how the member whose name has ended is to be treated. */
  askMember(offset: number): void;
  /** How to treat the value that begins: asks until the answer fits its type. */
  visitOf(type: JsonType, offset: number): Visit;
  readonly depth: number;
  readonly inObject: boolean;
  /** Where reading stands: the places of all visits on the way, and the pointer from the root or the last visit that sets it. */
  place(current: Visit | undefined): ErrorPlace & { pointer: string };
}

interface Descent {
  visit: ObjectVisit | ArrayVisit;
  names: Set<string> | undefined;
  /** The member under way, until the comma behind it. */
  name: string | undefined;
  /** How it is to be treated, until its value begins. */
  memberVisit: Visit | undefined;
  index: number;
}

export function createDescents(root: Visit): Descents {
  const open: Descent[] = [];

  function top(): Descent {
    const descent = open.at(-1);
    if (descent === undefined) throw new Error('no container that was gone into is open');
    return descent;
  }

  function askVisit(offset: number): Visit {
    if (open.length === 0) return root;
    const descent = top();
    if (descent.visit.kind === 'array') return descent.visit.onElement(descent.index, offset);
    const visit = descent.memberVisit;
    descent.memberVisit = undefined;
    if (visit === undefined) throw new Error('a member has a visit from its name on');
    return visit;
  }

  return {
    enter(visit) {
      const checked = visit.kind === 'object' && visit.uniqueNames === 'check';
      open.push({ visit, names: checked ? new Set() : undefined, name: undefined, memberVisit: undefined, index: 0 });
    },
    leave(offset) {
      top().visit.onEnd?.(offset);
      open.pop();
    },
    next() {
      const descent = top();
      descent.name = undefined;
      descent.index += 1;
    },
    addName(name) {
      const descent = top();
      descent.name = name;
      if (descent.names === undefined) return true;
      const before = descent.names.size;
      descent.names.add(name);
      return descent.names.size > before;
    },
    askMember(offset) {
      const descent = top();
      if (descent.visit.kind === 'object') descent.memberVisit = descent.visit.onMember(descent.name ?? '', offset);
    },
    visitOf(type, offset) {
      let visit = askVisit(offset);
      while ((visit.kind === 'object' || visit.kind === 'array') && visit.kind !== type) {
        visit = visit.onOther(type, offset);
      }
      return visit;
    },
    get depth() {
      return open.length;
    },
    get inObject() {
      return open.at(-1)?.visit.kind === 'object';
    },
    place(current) {
      let place: ErrorPlace & { pointer: string } = { pointer: '' };
      for (const { visit, name, index } of open) {
        place = { ...place, ...visit.place };
        if (visit.kind === 'array') place.pointer += pointerToken(String(index));
        else if (name !== undefined) place.pointer += pointerToken(name);
      }
      return { ...place, ...open.at(-1)?.memberVisit?.place, ...current?.place };
    },
  };
}
