import type { ErrorPlace } from '../errors.ts';

export type JsonType = 'object' | 'array' | 'string' | 'number' | 'boolean' | 'null';

/** Locates a value in errors, in addition to the byte offset. `pointer` defaults to the pointer from the root. */
export type VisitPlace = Omit<ErrorPlace, 'offset'>;

/**
 * Tells the scanner how to treat one value. The scanner requests a visit before it reads the value: for the root at the
 * start, for a member after its name, for an element at its first byte.
 */
export type Visit = CaptureVisit | ObjectVisit | ArrayVisit | SkipVisit;

/** Captures the whole value, checked and in normal form. `maxBytes` bounds the memory for it. */
export interface CaptureVisit {
  kind: 'capture';
  /** Maximum of `canonicalBytes`; more throws `document_too_large`. The captured text is never longer. */
  maxBytes: number;
  /** Maximum number of levels, including the value's own (`[]` is 1); more throws `nested_too_deeply`. */
  maxDepth: number;
  /** For duplicate names: `refuse` (default) throws `duplicate_member`, `keep` keeps all members. */
  duplicates?: 'refuse' | 'keep';
  place?: VisitPlace;
  /**
   * Whether a value that is in canonical form keeps it, which is faster. With `after`, an object that begins with a
   * member of this name, a string without spaces around it, and is in canonical form from its second member on.
   */
  canonical?: 'whole' | { after: string };
  /**
   * Saves a copy of the text. With `call`, the text is only valid during `onValue`; with `chunk`, as long as the chunk.
   * By default, the receiver owns it.
   */
  borrows?: 'call' | 'chunk';
  onValue(value: CapturedValue): void;
}

/** Enters an object and requests a visit for each member by its decoded name. */
export interface ObjectVisit {
  kind: 'object';
  /** `check` throws `duplicate_member`, at the cost of a Set of all names. With `caller`, the caller checks. */
  uniqueNames: 'check' | 'caller';
  place?: VisitPlace;
  /** `offset` is the place of the name's opening quote. */
  onMember(name: string, offset: number): Visit;
  /** `offset` is the place of the closing brace. */
  onEnd?(offset: number): void;
  /** Called for a value of another type. Throws, or returns another visit, for example to capture null. */
  onOther(type: JsonType, offset: number): Visit;
}

/** Enters an array and requests a visit for each element. */
export interface ArrayVisit {
  kind: 'array';
  place?: VisitPlace;
  /** `offset` is the place of the element's first byte. */
  onElement(index: number, offset: number): Visit;
  /** `offset` is the place of the closing bracket. */
  onEnd?(offset: number): void;
  /** Called as in `ObjectVisit`. */
  onOther(type: JsonType, offset: number): Visit;
}

/** Skips a value of any size. Checks grammar, strings and depth. Ignores inexact numbers and duplicate names. */
export interface SkipVisit {
  kind: 'skip';
  maxDepth: number;
  place?: VisitPlace;
}

export interface CapturedValue {
  /**
   * UTF-8 JSON text without whitespace between tokens and without bytes below 0x20. Members keep the order of the
   * input. Numbers are as `JSON.stringify` writes them. Strings are escaped as by PostgreSQL: only `"`, `\` and control
   * characters. See `borrows` for its owner.
   */
  text: Buffer;
  /**
   * Set if the text kept its canonical form (`CaptureVisit.canonical`), with spaces between tokens. It is 0, or where
   * the second member of an object begins, the first that is in canonical form.
   */
  canonicalFrom?: number;
  /**
   * Set together with a second member: for each member where its name begins and ends, with its quotes, and where its
   * value ends.
   */
  members?: readonly number[];
  type: JsonType;
  /** Length of PostgreSQL's `jsonb::text` of the value. */
  canonicalBytes: number;
  /** Offset of the value's first byte in the input. */
  offset: number;
}
