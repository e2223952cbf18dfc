import { type AuditHead, EMPTY_HEAD } from '../../domain/audit.ts';
import type { BackupManifest } from '../../domain/backup.ts';
import type { LoomError } from '../../errors.ts';
import { canonicalWithout } from '../../json/canonical.ts';
import type { EntryItem } from '../format/decoder.ts';
import { chainHash } from '../format/digests.ts';
import { seqOf } from './entry-forms.ts';
import { EntryText } from './entry-text.ts';
import { brokenLink, entryCountMismatch, headMismatch, malformedEntry } from './faults.ts';
import { malformedMemberOf } from './plain-entry.ts';

/** Describes an entry as `{"hash":"…",` and the canonical text of the rest. It is valid until the next one is read. */
export interface ReadEntry {
  entry: EntryText;
  /** Where the name of the first canonical member begins, see `chainHash`. */
  from: number;
}

/** Checks the audit entries of a backup one by one, then against the manifest. */
export interface EntryCheck {
  /** Adds the next entry. Returns it, valid until the next one; undefined from the first malformed entry on. */
  add(item: EntryItem): EntryText | undefined;
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
      const { entry, from } = readEntry(item);
      const member = malformedMemberOf(entry);
      if (member !== undefined) malformed ??= malformedEntry('', count, member, seqOf(entry.members()));
      if (malformed !== undefined) return undefined;
      const { text } = entry;
      const link = { seq: entry.seqNumber(), hash: entry.plain(entry.hash) };
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

/** Reads entries without checking them, into one object for all. */
export function createEntryReader(): (item: EntryItem) => ReadEntry {
  const entry = new EntryText();
  return ({ text, canonicalFrom, members }) => {
    if (canonicalFrom === undefined) return readCaptured(entry, text);
    entry.read(text, members);
    return { entry, from: canonicalFrom };
  };
}

/** Reads an entry in any form, and brings it into the one that LOOM writes. */
function readCaptured(entry: EntryText, captured: Buffer): ReadEntry {
  entry.read(captured);
  const { start, end } = entry.hash;
  const hash = start < 0 ? '{' : `{"hash":${captured.toString('utf8', start, end)},`;
  const canonical = canonicalWithout(captured, 'hash').slice(1);
  entry.read(Buffer.from(hash + canonical));
  return { entry, from: Buffer.byteLength(hash) };
}
