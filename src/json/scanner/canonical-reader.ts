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
  const { canonical } = visit;
  const from = canonical === 'whole' ? position : startOfSecondMember(chunk, position, canonical.after);
  return pass(visit, { type, chunk, position, base, from });
}

interface Candidate {
  type: JsonType;
  chunk: Buffer;
  position: number;
  base: number;
  /** Where the canonical form begins in the chunk; -1 if the value has another form. */
  from: number;
}

function pass(visit: CaptureVisit, { type, chunk, position, base, from }: Candidate): number {
  if (from < 0) return -1;
  const isWhole = from === position;
  const end = isWhole
    ? endOfCanonical(chunk, position, visit.maxDepth)
    : endOfCanonicalAfter(chunk, position + 1, from, visit.maxDepth);
  // The text of a first member has two spaces less than its canonical text.
  const canonicalBytes = end - position + (isWhole ? 0 : 2);
  if (end < 0 || canonicalBytes > visit.maxBytes) return -1;
  const span = chunk.subarray(position, end);
  const text = visit.borrows ? span : Buffer.from(span);
  visit.onValue({ text, type, canonicalBytes, offset: base + position, canonicalFrom: from - position });
  return end;
}
