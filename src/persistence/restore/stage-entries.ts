import { setImmediate as nextTurn } from 'node:timers/promises';
import { seqOf } from '../../backup/check/entry-forms.ts';
import { EntryText, type Span } from '../../backup/check/entry-text.ts';
import { createTimeReader } from '../../backup/check/entry-time.ts';
import { createFingerprints, fingerprintOf } from '../../backup/check/fingerprints.ts';
import { createChangeReader, type OnlyChange } from '../../backup/check/only-change.ts';
import { isHash, malformedMemberOf } from '../../backup/check/plain-entry.ts';
import type { EntryItem } from '../../backup/format/decoder.ts';
import { chainHash } from '../../backup/format/digests.ts';
import { type AuditHead, EMPTY_HEAD } from '../../domain/audit.ts';
import type { CopyRow } from '../connection/copy-in.ts';

/** Describes the staged entries. Positions count from 1. The findings end before the first malformed entry. */
export interface StagedEntries {
  count: number;
  malformed: { position: number; member: string; seq: number | null } | undefined;
  /** Seq of the first entry. PostgreSQL checks its hash, because the hash before it comes later in the backup. */
  firstSeq: number;
  /** The first entry whose seq does not follow that of the entry before it. */
  misplaced: { position: number; seq: number; expectedSeq: number } | undefined;
  /** The first entry whose hash does not match, of those whose text the node hashes itself. */
  altered: { position: number; seq: number } | undefined;
  last: AuditHead;
  /** Whether two entries may have the same event id or idempotency key. False is certain. */
  mayRepeat: boolean;
}

/** Turns entries into rows of `loom_stage_audit`, and checks them on the way. */
export interface EntryStager {
  /** Adds the fields of `entryColumns` to a row. May change the text of the item. */
  add(item: EntryItem, row: CopyRow): void;
  /** Returns the memory in use, in bytes. */
  heldBytes(): number;
  end(): Promise<StagedEntries>;
}

export const entryColumns = [
  'position',
  'seq',
  'hash',
  'previous_hash',
  'event_id',
  'idempotency_key',
  'recorded_at',
  'action',
  'change_name',
  'change_revision',
  'change_op',
  'change_sha256',
  'entry',
] as const;

/** Number of columns from `previous_hash` to `change_sha256`. */
const CHECKED_COLUMNS = 9;
/** Number of columns from `change_name` to `change_sha256`. */
const CHANGE_COLUMNS = 4;

export function createEntryStager(): EntryStager {
  const eventIds = createFingerprints();
  const keys = createFingerprints();
  const entry = new EntryText();
  const readChange = createChangeReader();
  const readTime = createTimeReader();
  const staged: StagedEntries = {
    count: 0,
    malformed: undefined,
    firstSeq: 0,
    misplaced: undefined,
    altered: undefined,
    last: EMPTY_HEAD,
    mayRepeat: false,
  };

  /**
   * Compares the entry with the one before it. Returns the hash from which PostgreSQL is to compute that of the entry.
   */
  function checkLink({ text, canonicalFrom }: EntryItem, { seq, hash }: AuditHead): string | undefined {
    const position = staged.count;
    const previous = staged.last;
    staged.last = { seq, hash };
    if (position === 1) {
      staged.firstSeq = seq;
      return undefined;
    }
    if (seq !== previous.seq + 1) staged.misplaced ??= { position, seq, expectedSeq: previous.seq + 1 };
    // PostgreSQL has the last word on the canonical form of any other text.
    if (canonicalFrom === undefined) return previous.hash;
    if (chainHash(previous.hash, text, canonicalFrom) !== hash) staged.altered ??= { position, seq };
    return undefined;
  }

  return {
    add: (item, row) => {
      entry.read(item.text, item.members);
      staged.count += 1;
      row.addInteger(staged.count);
      if (staged.malformed === undefined) {
        const member = malformedMemberOf(entry);
        if (member !== undefined) staged.malformed = { position: staged.count, member, seq: seqOf(entry.members()) };
      }
      if (staged.malformed !== undefined) {
        addUnchecked(row, entry);
        return;
      }
      const { text } = entry;
      const [hash, eventId] = [entry.plain(entry.hash), entry.plain(entry.eventId)];
      const seq = entry.seqNumber();
      const previousHash = checkLink(item, { seq, hash });
      eventIds.add(fingerprintOf(eventId));
      const key = entry.value(entry.idempotencyKey);
      if (typeof key === 'string') keys.add(fingerprintOf(key));
      row.addInteger(seq);
      addHex(row, text, entry.hash);
      if (previousHash === undefined) row.addNull();
      else row.addHex(Buffer.from(previousHash), 0, previousHash.length);
      row.addUuid(text, entry.eventId.start + 1);
      if (typeof key === 'string') row.addText(key);
      else row.addNull();
      row.addTimestamp(readTime(text, entry.recordedAt.start + 1));
      addAction(row, entry);
      // PostgreSQL also tells whether a restore or undo has recorded its changes.
      const isRestore = entry.is(entry.action, 'restore') || entry.is(entry.action, 'undo');
      addChange(row, entry, isRestore ? undefined : readChange(entry));
      addWithoutHash(row, entry);
    },
    heldBytes: () => eventIds.heldBytes() + keys.heldBytes(),
    end: async () => {
      const repeated = [await eventIds.repeated(nextTurn), await keys.repeated(nextTurn)];
      return { ...staged, mayRepeat: repeated.some(({ size }) => size > 0) };
    },
  };
}

/** Adds the columns of an entry that is malformed, or follows one that is. */
function addUnchecked(row: CopyRow, entry: EntryText): void {
  const { text, hash } = entry;
  const seq = seqOf(entry.members());
  if (seq === null) row.addNull();
  else row.addInteger(seq);
  const hasHash = isHash(text, hash);
  if (hasHash) addHex(row, text, hash);
  else row.addNull();
  addNulls(row, CHECKED_COLUMNS);
  if (hasHash) addWithoutHash(row, entry);
  else row.addJson(text, 0, text.length);
}

function addAction(row: CopyRow, entry: EntryText): void {
  const { text, action } = entry;
  if (entry.isPlain(action)) {
    row.addTextBytes(text, action.start + 1, action.end - 1);
    return;
  }
  const value = entry.value(action);
  // An overlong one is left to PostgreSQL.
  if (typeof value === 'string' && value !== '') row.addText(value);
  else row.addNull();
}

/** Adds the columns from `change_name` to `change_sha256`. */
function addChange(row: CopyRow, entry: EntryText, change: OnlyChange | undefined): void {
  if (change === undefined) {
    addNulls(row, CHANGE_COLUMNS);
    return;
  }
  const { text } = entry;
  const revision = change.revision.start >= 0 ? change.revision : entry.revision;
  row.addText(change.name);
  row.addInteger(revision.start < 0 ? 0 : entry.integer(revision));
  row.addText(change.op);
  if (change.op === 'delete') row.addNull();
  else addHex(row, text, change.sha256);
}

function addNulls(row: CopyRow, count: number): void {
  for (let column = 0; column < count; column += 1) row.addNull();
}

/** Adds the bytes of a plain string of hex digits. */
function addHex(row: CopyRow, text: Buffer, { start, end }: Span): void {
  row.addHex(text, start + 1, end - 1);
}

/** Adds the text of an entry without its hash. */
function addWithoutHash(row: CopyRow, entry: EntryText): void {
  const { start, isCut } = entry.removeHash();
  row.addJson(entry.text, start, entry.text.length, isCut ? '{' : '');
}
