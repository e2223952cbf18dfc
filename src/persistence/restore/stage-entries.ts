import { setImmediate as nextTurn } from 'node:timers/promises';
import { malformedMember, seqOf } from '../../backup/check/entry-forms.ts';
import { type EntryText, hasWellFormedHash, readEntryText, removeHash } from '../../backup/check/entry-text.ts';
import { createFingerprints, fingerprintOf } from '../../backup/check/fingerprints.ts';
import type { EntryItem } from '../../backup/format/decoder.ts';
import { chainHash } from '../../backup/format/digests.ts';
import { type AuditHead, EMPTY_HEAD } from '../../domain/audit.ts';

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
  /** Returns the fields of `entryColumns`, of which an empty one is null. Changes the text of the item. */
  add(item: EntryItem): (string | Buffer)[];
  /** Returns the memory in use, in bytes. */
  heldBytes(): number;
  end(): Promise<StagedEntries>;
}

export const entryColumns =
  'position, seq, hash, previous_hash, event_id, idempotency_key, recorded_at, action, ' +
  'change_name, change_revision, change_op, change_sha256, entry';

/** The columns from `previous_hash` to `change_sha256` of an entry that was not checked. */
const UNCHECKED = Array.from({ length: 9 }, () => '');

export function createEntryStager(): EntryStager {
  const eventIds = createFingerprints();
  const keys = createFingerprints();
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
    add: (item) => {
      const entry = readEntryText(item.text);
      const { members } = entry;
      staged.count += 1;
      const position = String(staged.count);
      const member = malformedMember(members);
      if (member !== undefined) staged.malformed ??= { position: staged.count, member, seq: seqOf(members) };
      if (staged.malformed !== undefined) {
        const hash = hasWellFormedHash(members) ? members.hash : '';
        const text = hash === '' ? item.text : removeHash(item.text, entry);
        return [position, String(seqOf(members) ?? ''), toBytea(hash), ...UNCHECKED, text];
      }
      const [seq, hash, eventId] = [Number(members.seq), String(members.hash), String(members.event_id)];
      const previousHash = checkLink(item, { seq, hash });
      eventIds.add(fingerprintOf(eventId));
      if (typeof members.idempotency_key === 'string') keys.add(fingerprintOf(members.idempotency_key));
      return [
        position,
        String(seq),
        toBytea(hash),
        toBytea(previousHash),
        eventId,
        ...columnsOf(entry),
        removeHash(item.text, entry),
      ];
    },
    heldBytes: () => eventIds.heldBytes() + keys.heldBytes(),
    end: async () => {
      const repeated = [await eventIds.repeated(nextTurn), await keys.repeated(nextTurn)];
      return { ...staged, mayRepeat: repeated.some(({ size }) => size > 0) };
    },
  };
}

/** Returns the columns from `idempotency_key` to `change_sha256` of a well-formed entry. */
function columnsOf({ members, change }: EntryText): string[] {
  const { action, idempotency_key: key, recorded_at: recordedAt, revision } = members;
  // COPY would take a control character for the end of a field. PostgreSQL reads such members itself.
  const isPlain = !hasControl(String(action)) && !hasControl(String(key));
  return [
    isPlain && key !== undefined ? String(key) : '',
    String(recordedAt),
    isPlain ? String(action) : '',
    // PostgreSQL also tells whether a restore or undo has recorded its changes.
    ...(change === undefined || action === 'restore' || action === 'undo'
      ? NO_CHANGE
      : [change.name, change.revision ?? String(revision ?? 0), change.op, toBytea(change.sha256)]),
  ];
}

const NO_CHANGE = ['', '', '', ''];

/** Returns PostgreSQL's input of hex digits as bytes. */
function toBytea(hex: string): string {
  return hex === '' ? '' : `\\x${hex}`;
}

function hasControl(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the expression looks for control characters
  return /[\u0000-\u001f]/.test(text);
}
