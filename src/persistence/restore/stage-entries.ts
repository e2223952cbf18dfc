import { setImmediate as nextTurn } from 'node:timers/promises';
import { seqOf } from '../../backup/check/entry-forms.ts';
import { EntryText, type Span } from '../../backup/check/entry-text.ts';
import { createFingerprints, fingerprintOf } from '../../backup/check/fingerprints.ts';
import { createChangeReader, type OnlyChange } from '../../backup/check/only-change.ts';
import { isHash, malformedMemberOf } from '../../backup/check/plain-entry.ts';
import type { EntryItem } from '../../backup/format/decoder.ts';
import { chainHash } from '../../backup/format/digests.ts';
import { type AuditHead, EMPTY_HEAD } from '../../domain/audit.ts';
import type { CopyLine } from '../connection/copy.ts';

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
  /** Adds the fields of `entryColumns` to a line, of which an empty one is null. May change the text of the item. */
  add(item: EntryItem, line: CopyLine): void;
  /** Returns the memory in use, in bytes. */
  heldBytes(): number;
  end(): Promise<StagedEntries>;
}

export const entryColumns =
  'position, seq, hash, previous_hash, event_id, idempotency_key, recorded_at, action, ' +
  'change_name, change_revision, change_op, change_sha256, entry';

/** Number of columns from `previous_hash` to `change_sha256`. */
const CHECKED_COLUMNS = 9;
/** Number of columns from `change_name` to `change_sha256`. */
const CHANGE_COLUMNS = 4;

export function createEntryStager(): EntryStager {
  const eventIds = createFingerprints();
  const keys = createFingerprints();
  const entry = new EntryText();
  const readChange = createChangeReader();
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
  function checkLink({ text, canonicalFrom }: EntryItem, { seq, hash }: AuditHead): string {
    const position = staged.count;
    const previous = staged.last;
    staged.last = { seq, hash };
    if (position === 1) {
      staged.firstSeq = seq;
      return '';
    }
    if (seq !== previous.seq + 1) staged.misplaced ??= { position, seq, expectedSeq: previous.seq + 1 };
    // PostgreSQL has the last word on the canonical form of any other text.
    if (canonicalFrom === undefined) return previous.hash;
    if (chainHash(previous.hash, text, canonicalFrom) !== hash) staged.altered ??= { position, seq };
    return '';
  }

  return {
    add: (item, line) => {
      entry.read(item.text, item.members);
      staged.count += 1;
      line.addText(String(staged.count));
      if (staged.malformed === undefined) {
        const member = malformedMemberOf(entry);
        if (member !== undefined) staged.malformed = { position: staged.count, member, seq: seqOf(entry.members()) };
      }
      if (staged.malformed !== undefined) {
        addUnchecked(line, entry);
        return;
      }
      const [hash, eventId] = [entry.plain(entry.hash), entry.plain(entry.eventId)];
      const previousHash = checkLink(item, { seq: entry.seqNumber(), hash });
      eventIds.add(fingerprintOf(eventId));
      const key = entry.value(entry.idempotencyKey);
      if (typeof key === 'string') keys.add(fingerprintOf(key));
      addSpan(line, entry.text, entry.seq);
      addHex(line, entry.text, entry.hash);
      line.addText(toBytea(previousHash));
      addString(line, entry.text, entry.eventId);
      addColumns(line, entry, typeof key === 'string' ? key : '');
      // PostgreSQL also tells whether a restore or undo has recorded its changes.
      const isRestore = entry.is(entry.action, 'restore') || entry.is(entry.action, 'undo');
      addChange(line, entry, isRestore ? undefined : readChange(entry));
      addWithoutHash(line, entry);
    },
    heldBytes: () => eventIds.heldBytes() + keys.heldBytes(),
    end: async () => {
      const repeated = [await eventIds.repeated(nextTurn), await keys.repeated(nextTurn)];
      return { ...staged, mayRepeat: repeated.some(({ size }) => size > 0) };
    },
  };
}

/** Adds the columns of an entry that is malformed, or follows one that is. */
function addUnchecked(line: CopyLine, entry: EntryText): void {
  line.addText(String(seqOf(entry.members()) ?? ''));
  const hasHash = isHash(entry.text, entry.hash);
  if (hasHash) addHex(line, entry.text, entry.hash);
  else line.addText('');
  addNulls(line, CHECKED_COLUMNS);
  if (hasHash) addWithoutHash(line, entry);
  else line.addBytes(entry.text, 0, entry.text.length);
}

/** Adds the columns from `idempotency_key` to `action` of a well-formed entry. */
function addColumns(line: CopyLine, entry: EntryText, key: string): void {
  const { text, action } = entry;
  const isPlainAction = entry.isPlain(action);
  const actionText = isPlainAction ? '' : String(entry.value(action));
  // COPY would take a control character for the end of a field. PostgreSQL reads such members itself.
  const isReadable = !hasControl(actionText) && !hasControl(key);
  line.addText(isReadable ? key : '');
  addString(line, text, entry.recordedAt);
  if (isReadable && isPlainAction) addString(line, text, action);
  else line.addText(isReadable ? actionText : '');
}

/** Adds the columns from `change_name` to `change_sha256`. */
function addChange(line: CopyLine, entry: EntryText, change: OnlyChange | undefined): void {
  if (change === undefined) {
    addNulls(line, CHANGE_COLUMNS);
    return;
  }
  const { text } = entry;
  const revision = change.revision.start >= 0 ? change.revision : entry.revision;
  line.addText(change.name);
  if (revision.start >= 0) addSpan(line, text, revision);
  else line.addText('0');
  line.addText(change.op);
  if (change.op === 'delete') line.addText('');
  else addHex(line, text, change.sha256);
}

function addNulls(line: CopyLine, count: number): void {
  for (let column = 0; column < count; column += 1) line.addText('');
}

function addSpan(line: CopyLine, text: Buffer, { start, end }: Span): void {
  line.addBytes(text, start, end);
}

/** Adds the text of a plain string. */
function addString(line: CopyLine, text: Buffer, { start, end }: Span): void {
  line.addBytes(text, start + 1, end - 1);
}

/** Adds PostgreSQL's input of hex digits as bytes. */
function addHex(line: CopyLine, text: Buffer, { start, end }: Span): void {
  line.addBytes(text, start + 1, end - 1, BYTEA);
}

const BYTEA = '\\x';

function toBytea(hex: string): string {
  return hex === '' ? '' : BYTEA + hex;
}

/** Adds the text of an entry without its hash. */
function addWithoutHash(line: CopyLine, entry: EntryText): void {
  const { start, isCut } = entry.removeHash();
  line.addBytes(entry.text, start, entry.text.length, isCut ? '{' : '');
}

function hasControl(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the expression looks for control characters
  return /[\u0000-\u001f]/.test(text);
}
