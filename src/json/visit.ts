import type { ErrorPlace } from '../errors.ts';

export type JsonType = 'object' | 'array' | 'string' | 'number' | 'boolean' | 'null';

/** The place that errors in a value name beside the byte offset. `pointer` defaults to the pointer from the root. */
export type VisitPlace = Omit<ErrorPlace, 'offset'>;

/**
 * Tells the scanner what to do with one value. The scanner asks for a visit before it reads the value: for the root at
 * the start, for a member after its name, for an element at its first byte.
 */
export type Visit = CaptureVisit | ObjectVisit | ArrayVisit | SkipVisit;

/** Delivers the whole value, checked and in normal form. `maxBytes` bounds the memory for it. */
export interface CaptureVisit {
  kind: 'capture';
  /** Maximum of `canonicalBytes`, which the captured text never exceeds; more is `document_too_large`. */
  maxBytes: number;
  /** Maximum of nested containers, the value itself included (`[]` is 1); more is `nested_too_deeply`. */
  maxDepth: number;
  /** For two members of one name: `refuse` (default) throws `duplicate_member`, `keep` keeps both. */
  duplicates?: 'refuse' | 'keep';
  place?: VisitPlace;
  onValue(value: CapturedValue): void;
}

/** Enters an object and asks for a visit of each member, by its decoded name. */
export interface ObjectVisit {
  kind: 'object';
  /** `check`: a duplicate throws `duplicate_member`, at the cost of a Set of all names. `caller`: the caller checks. */
  uniqueNames: 'check' | 'caller';
  place?: VisitPlace;
  /** `offset` is the place of the name's opening quote. */
  onMember(name: string, offset: number): Visit;
  /** `offset` is the place of the closing brace. */
  onEnd?(offset: number): void;
  /** Called for a value of another type. Throws, or returns another visit, for example to capture a `null`. */
  onOther(type: JsonType, offset: number): Visit;
}

/** Enters an array and asks for a visit of each element. */
export interface ArrayVisit {
  kind: 'array';
  place?: VisitPlace;
  /** `offset` is the place of the element's first byte. */
  onElement(index: number, offset: number): Visit;
  /** `offset` is the place of the closing bracket. */
  onEnd?(offset: number): void;
  /** As in `ObjectVisit`. */
  onOther(type: JsonType, offset: number): Visit;
}

/** Skips a value of any size. It must be JSON with storable strings; its numbers, names and size are not checked. */
export interface SkipVisit {
  kind: 'skip';
  maxDepth: number;
  place?: VisitPlace;
}

export interface CapturedValue {
  /**
   * UTF-8 JSON text without whitespace between tokens and without any byte below 0x20. Members are in the order of the
   * input, numbers as `JSON.stringify` writes them, strings escaped as PostgreSQL does (only `"`, `\` and control
   * characters). The receiver owns the buffer.
   */
  text: Buffer;
  type: JsonType;
  /** Length of PostgreSQL's `jsonb::text` of the value. */
  canonicalBytes: number;
  /** Offset in the input where the value begins. */
  offset: number;
}
