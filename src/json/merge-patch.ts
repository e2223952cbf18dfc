import { BYTE } from './bytes.ts';
import { MemberCursor } from './canonical-members.ts';
import { TextOutput } from './scanner/text-output.ts';

/** A value as canonical text: the first bytes of a buffer. */
export interface ValueText {
  bytes: Buffer;
  length: number;
}

/** Applies merge patches (RFC 7396) to values as canonical text. */
export interface Merger {
  /**
   * Returns the text of the result, which is valid until the next merge. `base` is undefined if there is no value yet.
   * The patch lies between two positions of its bytes.
   */
  merge(base: ValueText | undefined, patch: Buffer, start: number, end: number): Buffer;
}

const NO_MEMBERS = -1;
const FIRST_OF_NULL = 0x6e;
const NOTHING: ValueText = { bytes: Buffer.alloc(0), length: 0 };

/** Creates a merger. Base and patch have their members in the same order, so each object is merged in one pass. */
export function createMerger(): Merger {
  const output = new TextOutput();

  /** Merges two objects. A start of -1 stands for an object without members. */
  function mergeObjects(base: Buffer, baseStart: number, baseEnd: number, patch: Buffer, patchStart: number): void {
    const kept = new MemberCursor(base, baseStart);
    const changed = new MemberCursor(patch, patchStart);
    let hasKept = kept.next();
    let hasChanged = changed.next();
    let separator = '{';
    while (hasChanged) {
      const order = hasKept ? compareNames(kept, changed) : 1;
      const cursor = order < 0 ? kept : changed;
      const isRemoval = order >= 0 && patch[changed.valueStart] === FIRST_OF_NULL;
      if (!isRemoval) {
        output.push(separator);
        separator = ', ';
        output.open(cursor.nameStart);
        if (order < 0 || patch[changed.valueStart] !== BYTE.openBrace) {
          output.cut(cursor.bytes, cursor.valueEnd);
        } else {
          output.cut(patch, changed.valueStart);
          const isObject = order === 0 && base[kept.valueStart] === BYTE.openBrace;
          const start = isObject ? kept.valueStart + 1 : NO_MEMBERS;
          mergeObjects(base, start, kept.valueEnd, patch, changed.valueStart + 1);
        }
      }
      if (order <= 0) hasKept = kept.next();
      if (order >= 0) hasChanged = changed.next();
    }
    if (hasKept) {
      // Most patches change little: the rest of the base needs no look at its members.
      output.push(separator);
      output.open(kept.nameStart);
      output.cut(base, baseEnd);
    } else {
      output.push(separator === '{' ? '{}' : '}');
    }
  }

  return {
    merge: ({ bytes, length } = NOTHING, patch, start, end) => {
      if (patch[start] !== BYTE.openBrace) return patch.subarray(start, end);
      output.reset(true);
      mergeObjects(bytes, bytes[0] === BYTE.openBrace ? 1 : NO_MEMBERS, length, patch, start + 1);
      return output.take(true);
    },
  };
}

/** Compares two names in PostgreSQL's order: decoded, by length in bytes, then byte by byte. */
function compareNames(one: MemberCursor, other: MemberCursor): number {
  if (one.isPlain && other.isPlain) {
    const difference = one.nameEnd - one.nameStart - (other.nameEnd - other.nameStart);
    if (difference !== 0) return difference;
    return comparePlain(one, other);
  }
  const name = nameOf(one);
  const otherName = nameOf(other);
  return name.length - otherName.length || Buffer.compare(name, otherName);
}

/** Compares two names of the same length. Most are short, and a call into the runtime would cost more. */
function comparePlain(one: MemberCursor, other: MemberCursor): number {
  const length = one.nameEnd - one.nameStart;
  for (let index = 0; index < length; index += 1) {
    const byte = one.bytes[one.nameStart + index] as number;
    const difference = byte - (other.bytes[other.nameStart + index] as number);
    if (difference !== 0) return difference;
  }
  return 0;
}

function nameOf({ bytes, nameStart, nameEnd }: MemberCursor): Buffer {
  return Buffer.from(String(JSON.parse(bytes.toString('utf8', nameStart, nameEnd))));
}
