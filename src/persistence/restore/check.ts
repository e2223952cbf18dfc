import {
  brokenLink,
  digestMismatch,
  documentCountMismatch,
  duplicateDigest,
  duplicateDocument,
  entryCountMismatch,
  headMismatch,
  malformedEntry,
  repeatedMember,
  stateDigestMismatch,
} from '../../backup/check/faults.ts';
import type { CheckedBackup } from '../../backup/check/frame.ts';
import { GENESIS_HASH } from '../../domain/audit.ts';
import type { BackupManifest } from '../../domain/backup.ts';
import type { Connection, Queries } from '../connection/connection.ts';
import { digestDocuments } from '../state/digest.ts';
import type { StagedEntries } from './stage-entries.ts';

/** Points to the backup in the body of a restore. */
const BACKUP = '/backup';

/** Holds the computed digest and number of entries of the staged backup. */
export interface StagedBackup {
  stateSha256: string;
  entries: number;
}

/**
 * Checks the staged backup against its manifest: counts, digests, then the chain. Throws the first fault with its
 * document or seq. Without a manifest, it checks only for duplicates and the digests in the backup. It reads only the
 * staging tables. `entries` is what the node found out about them.
 */
export async function checkStage(
  connection: Connection,
  backup: CheckedBackup,
  entries: StagedEntries,
): Promise<StagedBackup> {
  const stateSha256 = await checkDocuments(connection, backup);
  const { count, malformed } = entries;
  if (backup.verified && backup.hasAudit) {
    if (malformed !== undefined) throw malformedEntry(BACKUP, malformed.position, malformed.member, malformed.seq);
    const { manifest } = backup;
    const isCountRight = count === manifest.audit_entries && count > 0 === (manifest.audit_first !== null);
    if (!isCountRight) throw entryCountMismatch(BACKUP, manifest.audit_entries, count);
    await checkChain(connection, manifest, entries);
  }
  return { stateSha256, entries: count };
}

async function checkDocuments(connection: Connection, backup: CheckedBackup): Promise<string> {
  const document = await firstRepeated(connection, 'loom_stage_document');
  if (document !== undefined) throw duplicateDocument(BACKUP, document);
  const digest = await firstRepeated(connection, 'loom_stage_digest');
  if (digest !== undefined) throw duplicateDigest(BACKUP, digest);
  if (backup.verified || backup.hasDigests) await checkDigests(connection);
  const { documents, sha256 } = await digestDocuments(connection, 'loom_stage_document');
  if (!backup.verified) return sha256;
  const { manifest } = backup;
  if (documents !== manifest.documents) throw documentCountMismatch(BACKUP, manifest.documents, documents);
  if (sha256 !== manifest.state_sha256) throw stateDigestMismatch(BACKUP);
  return sha256;
}

async function firstRepeated(queries: Queries, table: string): Promise<string | undefined> {
  const text = `select name from ${table} group by name having count(*) > 1 order by name limit 1`;
  return (await queries.firstRow<{ name: string }>(text))?.name;
}

async function checkDigests(queries: Queries): Promise<void> {
  const wrong = await queries.firstRow<{ name: string; fault: 'lost' | 'added' | 'changed' }>(
    `select name, case when s.sha256 is null then 'lost' when d.sha256 is null then 'added' else 'changed' end as fault
       from loom_stage_document s full join loom_stage_digest d using (name)
      where encode(s.sha256, 'hex') is distinct from d.sha256
      order by name limit 1`,
  );
  if (wrong !== undefined) throw digestMismatch(BACKUP, wrong.name, wrong.fault);
}

async function checkChain(queries: Queries, manifest: BackupManifest, entries: StagedEntries): Promise<void> {
  const previous = manifest.audit_first ?? { seq: 1, previous_hash: GENESIS_HASH };
  const misplaced = misplacedEntry(entries, previous.seq);
  const altered = await firstAltered(queries, entries, previous.previous_hash);
  if (misplaced !== undefined && misplaced.position <= (altered?.position ?? misplaced.position))
    throw brokenLink(BACKUP, misplaced.position, misplaced.seq, misplaced.expectedSeq);
  if (altered !== undefined) throw brokenLink(BACKUP, altered.position, altered.seq, altered.seq);
  if (entries.mayRepeat) await checkUniqueness(queries);
  const { seq, hash } = entries.last;
  const { audit_head: expected } = manifest;
  if (seq !== expected.seq || hash !== expected.hash) throw headMismatch(BACKUP, seq, expected.seq);
}

/** Returns the first entry with another seq than the one before it lets expect. */
function misplacedEntry(
  { count, firstSeq, misplaced }: StagedEntries,
  expectedSeq: number,
): StagedEntries['misplaced'] {
  return count > 0 && firstSeq !== expectedSeq ? { position: 1, seq: firstSeq, expectedSeq } : misplaced;
}

/** Returns the first entry whose hash does not match its text and the hash of the entry before it. */
async function firstAltered(
  queries: Queries,
  { altered }: StagedEntries,
  firstPreviousHash: string,
): Promise<StagedEntries['altered']> {
  const found = await queries.firstRow<{ position: number; seq: number }>(
    `select position, seq from loom_stage_audit
      where not case position when 1 then loom_chain_hash(decode($1, 'hex'), entry) = hash else is_linked end
      order by position limit 1`,
    [firstPreviousHash],
  );
  return altered === undefined || (found !== undefined && found.position < altered.position) ? found : altered;
}

async function checkUniqueness(queries: Queries): Promise<void> {
  const twice = await queries.firstRow<{ position: number; seq: number; member: string }>(
    `select position, seq, member
       from (select position, seq, member, row_number() over (partition by member, entry ->> member order by position) as nth
               from loom_stage_audit, unnest(array['event_id', 'idempotency_key']) as member
              where entry ? member) numbered
      where nth > 1 order by position, member limit 1`,
  );
  if (twice !== undefined) throw repeatedMember(BACKUP, twice.position, twice.seq, twice.member);
}

/**
 * Returns the position, from 1, of the first unverified entry whose `prev_hash` differs from the hash of the entry
 * before it. Public LOOM nodes write these members.
 */
export async function firstUnlinked(queries: Queries): Promise<number | undefined> {
  const unlinked = await queries.firstRow<{ position: number }>(
    `select position
       from (select position, entry ->> 'prev_hash' as prev_hash,
                    lag(coalesce(encode(hash, 'hex'), entry ->> 'hash')) over (order by position) as hash
               from loom_stage_audit where entry ? 'prev_hash') linked
      where position > 1 and prev_hash is distinct from hash
      order by position limit 1`,
  );
  return unlinked?.position;
}
