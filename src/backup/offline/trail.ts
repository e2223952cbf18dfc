import type { AuditHead } from '../../domain/audit.ts';
import type { BackupHeader, BackupManifest } from '../../domain/backup.ts';
import type { EntryMembers } from '../check/entry-forms.ts';
import { type OpenBackup, readEntries } from './read.ts';

/** Describes a backup that `verifyBackup` has verified: its chain is valid up to the head. */
export interface Trail {
  open: OpenBackup;
  header: BackupHeader;
  manifest: BackupManifest;
}

/**
 * Returns the seq of the entry before the first one in the backup. 0: the trail is complete. Without entries: the
 * head's seq.
 */
export function trailStart({ manifest: { audit_first: first, audit_head: head } }: Trail): number {
  return first === null ? head.seq : first.seq - 1;
}

/** Returns the seq of the backup's first entry, or of the head when it has no entries. */
export function firstEntrySeq({ manifest: { audit_first: first, audit_head: head } }: Trail): number {
  return first?.seq ?? head.seq;
}

/** Compares the export times of the headers. Returns false if a time is malformed. */
export function wasExportedBefore(one: Trail, other: Trail): boolean {
  const [time, otherTime] = [one.header.exported_at, other.header.exported_at];
  const isTime = (text: string): boolean => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/.test(text);
  return isTime(time) && isTime(otherTime) && time < otherTime;
}

/**
 * Returns the seq of the last entry with the same hash in both trails. A hash covers all earlier entries, so the trails
 * are equal up to it. Returns undefined when no seq has the same hash in both. Reads both files side by side up to the
 * first difference.
 */
export async function lastCommonSeq(one: Trail, other: Trail): Promise<number | undefined> {
  const upTo = Math.min(one.manifest.audit_head.seq, other.manifest.audit_head.seq);
  const readers = [readLinks(one), readLinks(other)] as const;
  let common: number | undefined;
  try {
    for (let seq = Math.max(trailStart(one), trailStart(other)); seq <= upTo; seq += 1) {
      if ((await hashAt(readers[0], seq)) !== (await hashAt(readers[1], seq))) break;
      common = seq;
    }
  } finally {
    for (const reader of readers) await reader.return(undefined);
  }
  return common;
}

/** Yields every seq and hash of the backup, in order. */
async function* readLinks({ open, manifest }: Trail): AsyncGenerator<AuditHead, undefined> {
  const { audit_first: first, audit_head: head } = manifest;
  if (first === null) {
    yield head;
    return;
  }
  yield { seq: first.seq - 1, hash: first.previous_hash };
  for await (const text of readEntries(open)) {
    const { seq, hash } = JSON.parse(text.toString('utf8')) as EntryMembers;
    yield { seq: Number(seq), hash: String(hash) };
  }
}

async function hashAt(reader: AsyncGenerator<AuditHead, undefined>, seq: number): Promise<string> {
  for (;;) {
    const { value: link } = await reader.next();
    if (link === undefined) throw new Error(`entry ${seq} is missing: the file changed while it was read`);
    if (link.seq === seq) return link.hash;
  }
}
