import { BYTE } from './bytes.ts';
import { MemberCursor } from './canonical-members.ts';
import { TextOutput } from './scanner/text-output.ts';

/** Applies merge patches (RFC 7396) to values as canonical text. */
export interface Merger {
  /**
   * Returns the text of the result, which is valid until the next merge. `base` is undefined if there is no value yet;
   * other bytes may follow it. The patch lies between two positions of its bytes.
   */
  merge(base: Buffer | undefined, patch: Buffer, start: number, end: number): Buffer;
}

const NO_MEMBERS = -1;
const FIRST_OF_NULL = 0x6e;
const NOTHING = Buffer.alloc(0);

/** Creates a merger. Base and patch have their members in the same order, so each object is merged in one pass. */
export function createMerger(): Merger {
  const output = new TextOutput();

  /** Merges two objects. A start of -1 stands for an object without members. */
  function mergeObjects(base: Buffer, baseStart: number, patch: Buffer, patchStart: number): void {
    const kept = new MemberCursor(base, baseStart);
    const changed = new MemberCursor(patch, patchStart);
    let hasKept = kept.next();
    let hasChanged = changed.next();
    let separator = '{';
    const begin = (cursor: MemberCursor): void => {
      output.push(separator);
      separator = ', ';
      output.open(cursor.nameStart);
    };
    while (hasKept || hasChanged) {
      const order = !hasChanged ? -1 : !hasKept ? 1 : compareNames(kept, changed);
      if (order < 0) {
        begin(kept);
        output.cut(base, kept.valueEnd);
      } else if (patch[changed.valueStart] === BYTE.openBrace) {
        begin(changed);
        output.cut(patch, changed.valueStart);
        const isObject = order === 0 && base[kept.valueStart] === BYTE.openBrace;
        mergeObjects(base, isObject ? kept.valueStart + 1 : NO_MEMBERS, patch, changed.valueStart + 1);
      } else if (patch[changed.valueStart] !== FIRST_OF_NULL) {
        begin(changed);
        output.cut(patch, changed.valueEnd);
      }
      if (order <= 0) hasKept = kept.next();
      if (order >= 0) hasChanged = changed.next();
    }
    output.push(separator === '{' ? '{}' : '}');
  }

  return {
    merge: (base = NOTHING, patch, start, end) => {
      if (patch[start] !== BYTE.openBrace) return patch.subarray(start, end);
      output.reset(true);
      mergeObjects(base, base[0] === BYTE.openBrace ? 1 : NO_MEMBERS, patch, start + 1);
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
