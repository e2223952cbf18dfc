import type { ErrorPlace } from '../../errors.ts';
import { pointerToken } from '../pointer.ts';
import type { ArrayVisit, JsonType, ObjectVisit, Visit } from '../visit.ts';

/** Tracks the open visited containers, from the root inwards. Each of their members or elements has its own visit. */
export interface VisitStack {
  enter(visit: ObjectVisit | ArrayVisit): void;
  /** `offset` is that of the closing brace or bracket. */
  leave(offset: number): void;
  /** Moves to the next member or element, after a comma. */
  next(): void;
  /** Sets the name of the current member. Returns false for a duplicate that the scanner must refuse. */
  addName(name: string): boolean;
  /** Requests the visit for the current member. */
  requestMember(offset: number): void;
  /** Returns the visit for the next value. Calls `onOther` until the visit fits the value's type. */
  visitOf(type: JsonType, offset: number): Visit;
  depth(): number;
  inObject(): boolean;
  /** Merges the places of all open visits. The pointer is from the root, or from the last visit that sets one. */
  place(current: Visit | undefined): ErrorPlace & { pointer: string };
}

interface OpenVisit {
  visit: ObjectVisit | ArrayVisit;
  names: Set<string> | undefined;
  /** The current member, from its name to the next comma. */
  name: string | undefined;
  /** The visit of the current member, until its value begins. */
  memberVisit: Visit | undefined;
  index: number;
}

export function createVisitStack(root: Visit): VisitStack {
  const open: OpenVisit[] = [];

  function top(): OpenVisit {
    const level = open.at(-1);
    if (level === undefined) throw new Error('no visited container is open');
    return level;
  }

  function requestVisit(offset: number): Visit {
    if (open.length === 0) return root;
    const level = top();
    if (level.visit.kind === 'array') return level.visit.onElement(level.index, offset);
    const visit = level.memberVisit;
    level.memberVisit = undefined;
    if (visit === undefined) throw new Error('the current member has no visit');
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
      const level = top();
      level.name = undefined;
      level.index += 1;
    },
    addName(name) {
      const level = top();
      level.name = name;
      if (level.names === undefined) return true;
      const before = level.names.size;
      level.names.add(name);
      return level.names.size > before;
    },
    requestMember(offset) {
      const level = top();
      if (level.visit.kind === 'object') level.memberVisit = level.visit.onMember(level.name ?? '', offset);
    },
    visitOf(type, offset) {
      let visit = requestVisit(offset);
      while ((visit.kind === 'object' || visit.kind === 'array') && visit.kind !== type) {
        visit = visit.onOther(type, offset);
      }
      return visit;
    },
    depth: () => open.length,
    inObject: () => open.at(-1)?.visit.kind === 'object',
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
