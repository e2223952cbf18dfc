import { type AuditHead, EMPTY_HEAD } from '../../domain/audit.ts';
import type { BackupManifest } from '../../domain/backup.ts';
import type { LoomError } from '../../errors.ts';
import { canonicalWithout } from '../../json/canonical.ts';
import { limits } from '../../limits.ts';
import { chainHash } from '../format/digests.ts';
import { brokenLink, entryCountMismatch, headMismatch, malformedEntry } from './faults.ts';

/** Judges the audit entries of a backup one by one; what its manifest says of them is known only after the last. */
export interface EntryCheck {
  /** `captured` is the text of one element of `audit_entries`. Answers its members while all have had the form that LOOM writes. */
  add(captured: Buffer): EntryMembers | undefined;
  count(): number;
  /** Forms, count and links, in this order. Throws the first fault. */
  assertHolds(manifest: BackupManifest): void;
  assertHead(manifest: BackupManifest): void;
}

/** The members that LOOM makes columns of, as JSON.parse gives them. */
export interface EntryMembers {
  seq?: unknown;
  hash?: unknown;
  event_id?: unknown;
  recorded_at?: unknown;
  action?: unknown;
  idempotency_key?: unknown;
}

export function createEntryCheck(): EntryCheck {
  let count = 0;
  let malformed: LoomError | undefined;
  let broken: LoomError | undefined;
  let first: { seq: number; hash: string; text: Buffer } | undefined;
  let last: AuditHead = EMPTY_HEAD;

  return {
    add: (captured) => {
      count += 1;
      const members = JSON.parse(captured.toString('utf8')) as EntryMembers;
      const member = malformedMember(members);
      if (member !== undefined) malformed ??= malformedEntry('', count, member, seqOf(members));
      if (malformed !== undefined) return undefined;
      const entry = { seq: Number(members.seq), hash: String(members.hash) };
      const text = Buffer.from(canonicalWithout(captured, 'hash'));
      // The first one's link is in the manifest, which is still to come.
      if (first === undefined) first = { ...entry, text };
      else if (entry.seq !== last.seq + 1 || chainHash(last.hash, text) !== entry.hash) {
        broken ??= brokenLink('', count, entry.seq, last.seq + 1);
      }
      last = entry;
      return members;
    },
    count: () => count,
    assertHolds: (manifest) => {
      if (malformed !== undefined) throw malformed;
      const startsRight = count > 0 === (manifest.audit_first !== null);
      if (count !== manifest.audit_entries || !startsRight) throw entryCountMismatch('', manifest.audit_entries, count);
      if (first !== undefined && manifest.audit_first !== null) {
        const { seq, previous_hash: previousHash } = manifest.audit_first;
        if (first.seq !== seq || chainHash(previousHash, first.text) !== first.hash)
          throw brokenLink('', 1, first.seq, seq);
      }
      if (broken !== undefined) throw broken;
    },
    assertHead: ({ audit_head: head }) => {
      if (last.seq !== head.seq || last.hash !== head.hash) throw headMismatch('', last.seq, head.seq);
    },
  };
}

/** The first member that does not have the form that LOOM writes. */
function malformedMember(entry: EntryMembers): keyof EntryMembers | undefined {
  if (seqOf(entry) === null) return 'seq';
  if (!matches(entry.hash, /^[0-9a-f]{64}$/)) return 'hash';
  if (!matches(entry.event_id, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)) return 'event_id';
  if (!isTime(entry.recorded_at)) return 'recorded_at';
  if (typeof entry.action !== 'string') return 'action';
  if (entry.idempotency_key !== undefined && !isKey(entry.idempotency_key)) return 'idempotency_key';
  return undefined;
}

function seqOf({ seq }: EntryMembers): number | null {
  return typeof seq === 'number' && Number.isInteger(seq) && seq >= 1 && seq < 1e15 ? seq : null;
}

function matches(value: unknown, pattern: RegExp): boolean {
  return typeof value === 'string' && pattern.test(value);
}

/** RFC 3339 in UTC with microseconds, and a date that exists. */
function isTime(value: unknown): boolean {
  if (!matches(value, /^(?!0000)\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}Z$/)) return false;
  const day = String(value).slice(0, 10);
  const parsed = new Date(`${day}T00:00:00Z`);
  return !Number.isNaN(parsed.getTime()) && parsed.toISOString().slice(0, 10) === day;
}

function isKey(value: unknown): boolean {
  if (typeof value !== 'string') return false;
  const bytes = Buffer.byteLength(value);
  return bytes >= 1 && bytes <= limits.maxIdempotencyKeyBytes;
}
