import { endOfCanonical, endOfCanonicalAfter, startOfSecondMember } from '../canonical-form.ts';
import type { CaptureVisit, JsonType, Visit } from '../visit.ts';

/**
 * Passes on the value at `position` if the visit accepts canonical form, and the value is in it and complete in the
 * chunk. Returns its end; otherwise -1, and the scanner reads the value token by token. `base` is the chunk's offset.
 */
export function readCanonical(visit: Visit, type: JsonType, chunk: Buffer, position: number, base: number): number {
  if (visit.kind !== 'capture' || visit.canonical === undefined) return -1;
  // A number may continue in the next chunk, and literals are short.
  if (type !== 'object' && type !== 'array' && type !== 'string') return -1;
  if (visit.canonical !== 'whole') return readAfter(visit, visit.canonical.after, { chunk, position, base });
  const end = endOfCanonical(chunk, position, visit.maxDepth);
  if (end < 0 || end - position > visit.maxBytes) return -1;
  const text = textOf(visit, chunk, position, end);
  visit.onValue({ text, type, canonicalBytes: end - position, offset: base + position, canonicalFrom: 0 });
  return end;
}

interface Place {
  chunk: Buffer;
  position: number;
  base: number;
}

/** Passes on an object that is in canonical form after its first member. */
function readAfter(visit: CaptureVisit, name: string, { chunk, position, base }: Place): number {
  const second = startOfSecondMember(chunk, position, name);
  if (second < 0) return -1;
  const members: number[] = [];
  const first = { nameStart: position + 1, valueEnd: second - 1, members, origin: position };
  const end = endOfCanonicalAfter(chunk, first, visit.maxDepth);
  // The text of a first member has two spaces less than its canonical text.
  const canonicalBytes = end - position + 2;
  if (end < 0 || canonicalBytes > visit.maxBytes) return -1;
  const text = textOf(visit, chunk, position, end);
  const canonicalFrom = second - position;
  visit.onValue({ text, type: 'object', canonicalBytes, offset: base + position, canonicalFrom, members });
  return end;
}

function textOf({ borrows }: CaptureVisit, chunk: Buffer, start: number, end: number): Buffer {
  const span = chunk.subarray(start, end);
  return borrows === undefined ? Buffer.from(span) : span;
}
