import type { ErrorPlace } from '../errors.ts';

export type JsonType = 'object' | 'array' | 'string' | 'number' | 'boolean' | 'null';

/** What a value's errors name beside the byte offset. `pointer` stands for the value; default: its pointer from the root. */
export type VisitPlace = Omit<ErrorPlace, 'offset'>;

/**
 * How the scanner treats one value. It is asked for when the place of the value is known and before its first byte: for
 * the root at the start, for a member when its name has ended, for an element at its first byte.
 */
export type Visit = CaptureVisit | ObjectVisit | ArrayVisit | SkipVisit;

/** Hands over the whole value, checked and normalised. Use `maxBytes` for memory: nothing larger is ever held. */
export interface CaptureVisit {
  kind: 'capture';
  /** Most `canonicalBytes`; more is `document_too_large`. The captured text is never longer than its canonical one. */
  maxBytes: number;
  /** Most containers around a scalar, the value itself included (`[]` is 1); more is `nested_too_deeply`. */
  maxDepth: number;
  /** Two members of one name in an object: `refuse` (the default) is `duplicate_member`, `keep` leaves both in the text. */
  duplicates?: 'refuse' | 'keep';
  place?: VisitPlace;
  onValue(value: CapturedValue): void;
}

/** Goes into an object and asks for each member. Names are decoded, valid Unicode, and at most `limits.maxMemberNameBytes`. */
export interface ObjectVisit {
  kind: 'object';
  /** `check`: two members of one name are `duplicate_member`, at the cost of a Set of all names; `caller`: the caller looks. */
  uniqueNames: 'check' | 'caller';
  place?: VisitPlace;
  /** `offset` is that of the name's opening quote. */
  onMember(name: string, offset: number): Visit;
  /** `offset` is that of the closing brace. */
  onEnd?(offset: number): void;
  /** The value is of another type: throws, or says how to treat it instead (for example: captures a `null`). */
  onOther(type: JsonType, offset: number): Visit;
}

/** Goes into an array and asks for each element. */
export interface ArrayVisit {
  kind: 'array';
  place?: VisitPlace;
  /** `offset` is that of the element's first byte. */
  onElement(index: number, offset: number): Visit;
  /** `offset` is that of the closing bracket. */
  onEnd?(offset: number): void;
  /** As in `ObjectVisit`. */
  onOther(type: JsonType, offset: number): Visit;
}

/** Reads over a value of any size: it must be JSON and hold storable strings; numbers, names and size are not judged. */
export interface SkipVisit {
  kind: 'skip';
  maxDepth: number;
  place?: VisitPlace;
}

export interface CapturedValue {
  /**
   * UTF-8 JSON text without whitespace between tokens and without any byte below 0x20: member order as it came, numbers as
   * `JSON.stringify` writes them, strings escaped as PostgreSQL does (only `"`, `\` and control characters). The memory is
   * the receiver's own.
   */
  text: Buffer;
  type: JsonType;
  /** Length in bytes of PostgreSQL's `jsonb::text` of the value. */
  canonicalBytes: number;
  /** Where the value begins in the whole input. */
  offset: number;
}
