import { type AuditHead, EMPTY_HEAD } from '../../domain/audit.ts';
import type { BackupManifest } from '../../domain/backup.ts';
import type { LoomError } from '../../errors.ts';
import { canonicalWithout } from '../../json/canonical.ts';
import type { BackupItem } from '../format/decoder.ts';
import { chainHash } from '../format/digests.ts';
import { type EntryMembers, malformedMember, seqOf } from './entry-forms.ts';
import { brokenLink, entryCountMismatch, headMismatch, malformedEntry } from './faults.ts';

type EntryItem = Extract<BackupItem, { kind: 'entry' }>;

export interface CheckedEntry {
  members: EntryMembers;
  /** The canonical text of the entry without its hash, from `from` on, where the name of its first member begins. */
  text: Buffer;
  from: number;
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

  return {
    add: (item) => {
      count += 1;
      const members = JSON.parse(item.text.toString('utf8')) as EntryMembers;
      const member = malformedMember(members);
      if (member !== undefined) malformed ??= malformedEntry('', count, member, seqOf(members));
      if (malformed !== undefined) return undefined;
      const entry = { seq: Number(members.seq), hash: String(members.hash) };
      const { text, from } = withoutHash(item);
      // The first entry is linked to a hash in the manifest, which may come later in the file.
      if (first === undefined) first = { ...entry, text: Buffer.from(text), from };
      else if (entry.seq !== last.seq + 1 || chainHash(last.hash, text, from) !== entry.hash) {
        broken ??= brokenLink('', count, entry.seq, last.seq + 1);
      }
      last = entry;
      return { members, text, from };
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

/** Returns the canonical text of an entry without its hash. LOOM writes the hash first, and the rest in this form. */
function withoutHash({ text, canonicalFrom }: EntryItem): { text: Buffer; from: number } {
  if (canonicalFrom !== undefined) return { text, from: canonicalFrom };
  return { text: Buffer.from(canonicalWithout(text, 'hash')), from: 1 };
}
