import { limits } from '../../limits.ts';

// Defines the forms of those members of an audit entry that LOOM stores in columns or sends in headers. The offline
// verifier and a restore use them. Each expression means the same in JavaScript (without flags) and in PostgreSQL's
// advanced regular expressions, so that SQL can check entries, too. They contain no backslash: under an ICU locale,
// `\d` matches the digits of every script.

const SHORT_OR_LONG_MONTH_DAY =
  '(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8])';
/** Matches a leap year: divisible by 4, and by 400 if divisible by 100. */
const LEAP_YEAR = '([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)';
const DAY = `(?!0000)([0-9]{4}-(${SHORT_OR_LONG_MONTH_DAY})|${LEAP_YEAR}-02-29)`;

/** Maps each member to the source of a regular expression for its text. */
export const entryForms = {
  /** A whole number from 1 to 999,999,999,999,999, in plain decimal. */
  seq: '^[1-9][0-9]{0,14}$',
  /** Lower-case hex of a SHA-256. */
  hash: '^[0-9a-f]{64}$',
  /** A UUID in lower case. */
  event_id: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$',
  /** RFC 3339 in UTC with microseconds, on a day that exists. */
  recorded_at: `^${DAY}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9][.][0-9]{6}Z$`,
  /** A whole number up to 16 digits, in plain decimal. */
  revision: '^(0|[1-9][0-9]{0,15})$',
  /** Characters that an entity tag in a header can have. LOOM writes ten of them. */
  epoch: '^[0-9A-Za-z_-]{1,64}$',
} as const;

/** Bounds an `idempotency_key`, in bytes of UTF-8. */
export const idempotencyKeyBytes = { min: 1, max: limits.maxIdempotencyKeyBytes } as const;

/** Describes the checked members of an audit entry, as `JSON.parse` returns them. */
export interface EntryMembers {
  seq?: unknown;
  hash?: unknown;
  event_id?: unknown;
  recorded_at?: unknown;
  action?: unknown;
  idempotency_key?: unknown;
  revision?: unknown;
  epoch?: unknown;
}

const eventIdForm = new RegExp(entryForms.event_id);
const recordedAtForm = new RegExp(entryForms.recorded_at);
const epochForm = new RegExp(entryForms.epoch);

/** Returns the name of the first malformed member; undefined when every member has its form. */
export function malformedMember(entry: EntryMembers): keyof EntryMembers | undefined {
  if (seqOf(entry) === null) return 'seq';
  if (!isSha256(entry.hash)) return 'hash';
  if (!matches(entry.event_id, eventIdForm)) return 'event_id';
  if (!matches(entry.recorded_at, recordedAtForm)) return 'recorded_at';
  if (typeof entry.action !== 'string') return 'action';
  if (entry.idempotency_key !== undefined && !isIdempotencyKey(entry.idempotency_key)) return 'idempotency_key';
  if (entry.revision !== undefined && !isRevision(entry.revision)) return 'revision';
  if (entry.epoch !== undefined && !matches(entry.epoch, epochForm)) return 'epoch';
  return undefined;
}

/** Returns the entry's seq; null when it is malformed. */
export function seqOf({ seq }: EntryMembers): number | null {
  return isWholeNumber(seq) && seq >= 1 && seq < 1e15 ? seq : null;
}

/** Returns whether a number has the form `revision`. */
export function isRevision(value: unknown): value is number {
  return isWholeNumber(value) && value >= 0 && value < 1e16;
}

/** Whole numbers below 1e21 are plain decimals as text, so no expression need look at it. */
function isWholeNumber(value: unknown): value is number {
  return Number.isInteger(value);
}

/** Returns whether the value has the form `hash`, faster than its expression. */
export function isSha256(value: unknown): value is string {
  if (typeof value !== 'string' || value.length !== 64) return false;
  for (let index = 0; index < value.length; index += 1) {
    const code = value.charCodeAt(index);
    const isHex = (code >= 0x30 && code <= 0x39) || (code >= 0x61 && code <= 0x66);
    if (!isHex) return false;
  }
  return true;
}

function matches(value: unknown, form: RegExp): boolean {
  return typeof value === 'string' && form.test(value);
}

function isIdempotencyKey(value: unknown): boolean {
  if (typeof value !== 'string') return false;
  const bytes = Buffer.byteLength(value);
  return bytes >= idempotencyKeyBytes.min && bytes <= idempotencyKeyBytes.max;
}
