import { setImmediate as nextTurn } from 'node:timers/promises';
import { malformedMember, seqOf } from '../../backup/check/entry-forms.ts';
import { readEntryText } from '../../backup/check/entry-text.ts';
import { createFingerprints } from '../../backup/check/fingerprints.ts';
import { type AuditHead, EMPTY_HEAD } from '../../domain/audit.ts';

/** Describes the staged entries. Positions count from 1. */
export interface StagedEntries {
  count: number;
  /** The first entry with a malformed member. The findings below end before it. */
  malformed: { position: number; member: string; seq: number | null } | undefined;
  /** Seq of the first entry. */
  firstSeq: number;
  /** The first entry whose seq is not that of the entry before it plus one. */
  misplaced: { position: number; seq: number; expectedSeq: number } | undefined;
  /** Seq and hash of the last entry. */
  last: AuditHead;
  /** Whether two entries may have the same event id or idempotency key. False is certain. */
  mayRepeat: boolean;
}

/** Turns captured entries into rows of `loom_stage_audit`, and checks them on the way. */
export interface EntryStager {
  /** Returns the fields of `entryColumns`. Takes over the memory of `captured`. */
  add(captured: Buffer): (string | Buffer)[];
  /** Returns the memory of the findings, in bytes. */
  heldBytes(): number;
  end(): Promise<StagedEntries>;
}

/** Lists the columns that `EntryStager.add` fills. An empty field is null. */
export const entryColumns =
  'position, seq, hash, previous_hash, event_id, idempotency_key, recorded_at, action, ' +
  'change_name, change_revision, change_op, change_sha256, entry';

/** The columns from `previous_hash` to `change_sha256` of a malformed entry. */
const UNREAD = Array.from({ length: 9 }, () => '');

const EVENT_ID = 0;
const IDEMPOTENCY_KEY = 1;

export function createEntryStager(): EntryStager {
  const fingerprints = createFingerprints();
  const staged: StagedEntries = {
    count: 0,
    malformed: undefined,
    firstSeq: 0,
    misplaced: undefined,
    last: EMPTY_HEAD,
    mayRepeat: false,
  };

  return {
    add: (captured) => {
      const { members, hash, text, change } = readEntryText(captured);
      staged.count += 1;
      const position = staged.count;
      const member = malformedMember(members);
      if (member !== undefined) staged.malformed ??= { position, member, seq: seqOf(members) };
      if (staged.malformed !== undefined || hash === undefined) {
        return [String(position), String(seqOf(members) ?? ''), toBytea(hash), ...UNREAD, text];
      }
      const seq = Number(members.seq);
      const previous = staged.last;
      if (position === 1) staged.firstSeq = seq;
      else if (seq !== previous.seq + 1) staged.misplaced ??= { position, seq, expectedSeq: previous.seq + 1 };
      staged.last = { seq, hash };
      const [eventId, key, action] = [
        String(members.event_id),
        String(members.idempotency_key ?? ''),
        String(members.action),
      ];
      fingerprints.add(EVENT_ID, eventId);
      if (key !== '') fingerprints.add(IDEMPOTENCY_KEY, key);
      // COPY would take a control character for the end of a field. PostgreSQL reads such members itself.
      const isPlain = !hasControl(action) && !hasControl(key);
      return [
        String(position),
        String(seq),
        toBytea(hash),
        toBytea(position === 1 ? undefined : previous.hash),
        eventId,
        isPlain ? key : '',
        String(members.recorded_at),
        isPlain ? action : '',
        change?.name ?? '',
        change === undefined ? '' : (change.revision ?? String(members.revision ?? 0)),
        change?.op ?? '',
        toBytea(change?.sha256),
        text,
      ];
    },
    heldBytes: fingerprints.heldBytes,
    end: async () => ({ ...staged, mayRepeat: await fingerprints.hasRepeat(nextTurn) }),
  };
}

/** Returns PostgreSQL's input of hex digits as bytes; empty for none. */
function toBytea(hex: string | undefined): string {
  return hex === undefined || hex === '' ? '' : `\\x${hex}`;
}

function hasControl(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the expression looks for control characters
  return /[\u0000-\u001f]/.test(text);
}
