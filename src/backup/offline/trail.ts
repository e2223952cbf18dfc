import type { AuditHead } from '../../domain/audit.ts';
import type { BackupHeader, BackupManifest } from '../../domain/backup.ts';
import type { EntryMembers } from '../check/entry.ts';
import { type OpenBackup, readEntries } from './read.ts';

/** A backup that `verifyBackup` has found whole: each entry is linked to the one before, up to the head. */
export interface Trail {
  open: OpenBackup;
  header: BackupHeader;
  manifest: BackupManifest;
}

/**
 * Seq of the first hash that the backup knows: that to which its first entry is linked, or the head when it holds no entry.
 * 0: the trail is there from its beginning.
 */
export function trailStart({ manifest: { audit_first: first, audit_head: head } }: Trail): number {
  return first === null ? head.seq : first.seq - 1;
}

/** The first of the entries that the backup tells of: without entries, that is its head alone. */
export function firstEntrySeq({ manifest: { audit_first: first, audit_head: head } }: Trail): number {
  return first?.seq ?? head.seq;
}

/** By the times that both say. What is not of LOOM's form is not compared. */
export function wasExportedBefore(one: Trail, other: Trail): boolean {
  const [time, otherTime] = [one.header.exported_at, other.header.exported_at];
  const isTime = (text: string): boolean => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/.test(text);
  return isTime(time) && isTime(otherTime) && time < otherTime;
}

/**
 * Seq of the last entry whose hash is the same in both: since a hash covers all that comes before, the trails are one up to
 * there. Undefined when there is no seq of which both know the hash, or already the first such is not the same. Reads
 * both side by side, and no further than they agree.
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

/** All that the backup knows of the chain, in its order. */
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
    if (link === undefined) throw new Error(`entry ${seq} is gone: the file was changed while it was read`);
    if (link.seq === seq) return link.hash;
  }
}
