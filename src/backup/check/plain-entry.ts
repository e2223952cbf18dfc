import { BYTE, DIGIT, HEX_DIGIT, table } from '../../json/bytes.ts';
import { isPlain } from '../../json/canonical-members.ts';
import { type EntryMembers, idempotencyKeyBytes, malformedMember } from './entry-forms.ts';
import type { EntryText, Span } from './entry-text.ts';

const OF_EPOCH = table((byte) => /[0-9A-Za-z_-]/.test(String.fromCharCode(byte)));
const MAX_EPOCH_LENGTH = 64;
/** Digits of a seq or revision that is surely not too large. */
const MAX_DIGITS = 15;
const EVENT_ID = '00000000-0000-0000-0000-000000000000';
const RECORDED_AT = '0000-00-00T00:00:00.000000Z';
/** Each month has these days. */
const DAYS = 28;

/** Returns the name of the first malformed member of an entry; undefined when every member has its form. */
export function malformedMemberOf(entry: EntryText): keyof EntryMembers | undefined {
  return isPlainlyWellFormed(entry) ? undefined : malformedMember(entry.members());
}

/**
 * Returns true only if every member of an entry has its form (`entryForms`). Looks at bytes, without expressions, and
 * knows most entries that LOOM writes. False says nothing.
 */
export function isPlainlyWellFormed(entry: EntryText): boolean {
  const { text } = entry;
  return (
    isPositive(text, entry.seq) &&
    isHash(text, entry.hash) &&
    matches(text, entry.eventId, EVENT_ID, HEX_DIGIT) &&
    isTime(text, entry.recordedAt) &&
    text[entry.action.start] === BYTE.quote &&
    (entry.idempotencyKey.start < 0 || isKey(text, entry.idempotencyKey)) &&
    (entry.revision.start < 0 || isPositive(text, entry.revision)) &&
    (entry.epoch.start < 0 || isEpoch(text, entry.epoch))
  );
}

/** Returns whether a value is a string with the form of `hash`. */
export function isHash(text: Buffer, { start, end }: Span): boolean {
  return start >= 0 && end - start === 66 && isString(text, start, end) && areAll(text, start + 1, end - 1, HEX_DIGIT);
}

function isPositive(text: Buffer, { start, end }: Span): boolean {
  return start >= 0 && end - start <= MAX_DIGITS && text[start] !== BYTE.zero && areAll(text, start, end, DIGIT);
}

function isKey(text: Buffer, { start, end }: Span): boolean {
  const bytes = end - start - 2;
  if (bytes < idempotencyKeyBytes.min || bytes > idempotencyKeyBytes.max) return false;
  return isString(text, start, end) && isPlain(text, start + 1, end - 1);
}

function isEpoch(text: Buffer, { start, end }: Span): boolean {
  const length = end - start - 2;
  return (
    length >= 1 &&
    length <= MAX_EPOCH_LENGTH &&
    isString(text, start, end) &&
    areAll(text, start + 1, end - 1, OF_EPOCH)
  );
}

/** Knows the times of the first 28 days of a month. */
function isTime(text: Buffer, span: Span): boolean {
  if (!matches(text, span, RECORDED_AT, DIGIT)) return false;
  const at = span.start + 1;
  const year = 100 * twoDigits(text, at) + twoDigits(text, at + 2);
  const month = twoDigits(text, at + 5);
  const day = twoDigits(text, at + 8);
  if (year < 1 || month < 1 || month > 12 || day < 1 || day > DAYS) return false;
  return twoDigits(text, at + 11) < 24 && twoDigits(text, at + 14) < 60 && twoDigits(text, at + 17) < 60;
}

/** Returns whether a value is a string like the example, with any bytes of `places` where that has a zero. */
function matches(text: Buffer, { start, end }: Span, example: string, places: Uint8Array): boolean {
  if (start < 0 || end - start !== example.length + 2 || text[start] !== BYTE.quote) return false;
  for (let index = 0; index < example.length; index += 1) {
    const byte = text[start + 1 + index] as number;
    const expected = example.charCodeAt(index);
    if (expected === BYTE.zero ? places[byte] !== 1 : byte !== expected) return false;
  }
  return true;
}

function isString(text: Buffer, start: number, end: number): boolean {
  return text[start] === BYTE.quote && end - start >= 2;
}

function areAll(text: Buffer, start: number, end: number, bytes: Uint8Array): boolean {
  for (let index = start; index < end; index += 1) if (bytes[text[index] as number] !== 1) return false;
  return end > start;
}

function twoDigits(text: Buffer, at: number): number {
  return 10 * ((text[at] as number) - BYTE.zero) + (text[at + 1] as number) - BYTE.zero;
}
