import { type AuditHead, EMPTY_HEAD } from '../../domain/audit.ts';
import type { BackupManifest } from '../../domain/backup.ts';
import type { LoomError } from '../../errors.ts';
import { canonicalWithout } from '../../json/canonical.ts';
import { MemberCursor } from '../../json/canonical-members.ts';
import type { EntryItem } from '../format/decoder.ts';
import { chainHash } from '../format/digests.ts';
import { type EntryMembers, malformedMember, seqOf } from './entry-forms.ts';
import { brokenLink, entryCountMismatch, headMismatch, malformedEntry } from './faults.ts';

export interface CheckedEntry {
  members: EntryMembers;
  /** The canonical text of the entry without its hash, from `from` on, where the name of its first member begins. */
  text: Buffer;
  from: number;
  /** Where the value of `changes` begins in the text; -1 without one. */
  changesAt: number;
}

/** Checks the audit entries of a backup one by one, then against the manifest. */
export interface EntryCheck {
  /** Adds the next entry. Returns it checked; undefined from the first malformed entry on. */
  add(item: EntryItem): CheckedEntry | undefined;
  count(): number;
  /** Throws the first fault, in this order: forms, count, links. */
  assertValid(manifest: BackupManifest): void;
  assertHead(manifest: BackupManifest): void;
}

export function createEntryCheck(): EntryCheck {
  let count = 0;
  let malformed: LoomError | undefined;
  let broken: LoomError | undefined;
  let first: { seq: number; hash: string; text: Buffer; from: number } | undefined;
  let last: AuditHead = EMPTY_HEAD;
  const readEntry = createEntryReader();

  return {
    add: (item) => {
      count += 1;
      const entry = readEntry(item);
      const { members, text, from } = entry;
      const member = malformedMember(members);
      if (member !== undefined) malformed ??= malformedEntry('', count, member, seqOf(members));
      if (malformed !== undefined) return undefined;
      const link = { seq: Number(members.seq), hash: String(members.hash) };
      // The first entry is linked to a hash in the manifest, which may come later in the file.
      if (first === undefined) first = { ...link, text: Buffer.from(text), from };
      else if (link.seq !== last.seq + 1 || chainHash(last.hash, text, from) !== link.hash) {
        broken ??= brokenLink('', count, link.seq, last.seq + 1);
      }
      last = link;
      return entry;
    },
    count: () => count,
    assertValid: (manifest) => {
      if (malformed !== undefined) throw malformed;
      const hasStart = count > 0 === (manifest.audit_first !== null);
      if (count !== manifest.audit_entries || !hasStart) throw entryCountMismatch('', manifest.audit_entries, count);
      if (first !== undefined && manifest.audit_first !== null) {
        const { seq, previous_hash: previousHash } = manifest.audit_first;
        if (first.seq !== seq || chainHash(previousHash, first.text, first.from) !== first.hash)
          throw brokenLink('', 1, first.seq, seq);
      }
      if (broken !== undefined) throw broken;
    },
    assertHead: ({ audit_head: head }) => {
      if (last.seq !== head.seq || last.hash !== head.hash) throw headMismatch('', last.seq, head.seq);
    },
  };
}

/** Where the text of the hash begins in an entry with `canonicalFrom`: after `{"hash":"`. */
const HASH_START = 9;

/** Reads entries without checking them. */
export function createEntryReader(): (item: EntryItem) => CheckedEntry {
  // Most entries have the epoch and the action of the one before.
  let lastEpoch: unknown;
  let lastAction: unknown;

  function readMembers(text: Buffer, from: number, hash: unknown): CheckedEntry {
    const members = noMembers();
    members.hash = hash;
    let changesAt = -1;
    const cursor = new MemberCursor(text, from);
    while (cursor.next()) {
      // An assignment to `members[name]` would cost more than the rest.
      if (cursor.isNamed('changes')) changesAt = cursor.valueStart;
      else if (cursor.isNamed('seq')) members.seq = cursor.readValue();
      else if (cursor.isNamed('epoch')) members.epoch = lastEpoch = cursor.readValue(lastEpoch);
      else if (cursor.isNamed('action')) members.action = lastAction = cursor.readValue(lastAction);
      else if (cursor.isNamed('event_id')) members.event_id = cursor.readValue();
      else if (cursor.isNamed('revision')) members.revision = cursor.readValue();
      else if (cursor.isNamed('recorded_at')) members.recorded_at = cursor.readValue();
      else if (cursor.isNamed('idempotency_key')) members.idempotency_key = cursor.readValue();
      else if (cursor.isNamed('restore')) members.restore = cursor.readValue();
      else if (cursor.isNamed('undo')) members.undo = cursor.readValue();
    }
    return { members, text, from, changesAt };
  }

  return ({ text, canonicalFrom }) => {
    if (canonicalFrom !== undefined) {
      return readMembers(text, canonicalFrom, text.toString('latin1', HASH_START, canonicalFrom - 2));
    }
    const { hash } = JSON.parse(text.toString('utf8')) as EntryMembers;
    return readMembers(Buffer.from(canonicalWithout(text, 'hash')), 1, hash);
  };
}

/** Returns an object in which the members of every entry have the same places, so that access to them is fast. */
function noMembers(): EntryMembers {
  return {
    seq: undefined,
    hash: undefined,
    event_id: undefined,
    recorded_at: undefined,
    action: undefined,
    idempotency_key: undefined,
    revision: undefined,
    epoch: undefined,
    restore: undefined,
    undo: undefined,
  };
}
