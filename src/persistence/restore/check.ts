import { entryForms, idempotencyKeyBytes } from '../../backup/check/entry-forms.ts';
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
import { type AuditHead, EMPTY_HEAD, GENESIS_HASH } from '../../domain/audit.ts';
import type { BackupManifest } from '../../domain/backup.ts';
import type { Connection, Queries } from '../connection/connection.ts';
import { digestDocuments } from '../state/digest.ts';

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
 * staging tables.
 */
export async function checkStage(connection: Connection, backup: CheckedBackup): Promise<StagedBackup> {
  const stateSha256 = await checkDocuments(connection, backup);
  const counted = await connection.firstRow<{ entries: number }>('select count(*) as entries from loom_stage_audit');
  const entries = counted?.entries ?? 0;
  if (backup.verified && backup.hasAudit) {
    await checkEntryForms(connection);
    const { manifest } = backup;
    const isCountRight = entries === manifest.audit_entries && entries > 0 === (manifest.audit_first !== null);
    if (!isCountRight) throw entryCountMismatch(BACKUP, manifest.audit_entries, entries);
    await checkChain(connection, manifest);
  }
  return { stateSha256, entries };
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

/**
 * Checks the members that become columns or parts of answers when entries are adopted. The offline verifier uses the
 * same forms.
 */
async function checkEntryForms(queries: Queries): Promise<void> {
  const bad = await queries.firstRow<{ position: number; seq: number | null; member: string }>(
    `select position, seq, member
       from (select position, seq, case
               when seq is null then 'seq'
               when hash is null then 'hash'
               when coalesce(line ->> 'event_id' !~ $1, true) then 'event_id'
               when coalesce(line ->> 'recorded_at' !~ $2, true) then 'recorded_at'
               when coalesce(jsonb_typeof(line -> 'action') <> 'string', true) then 'action'
               when jsonb_typeof(line -> 'idempotency_key') <> 'string'
                 or octet_length(line ->> 'idempotency_key') not between $3 and $4 then 'idempotency_key'
               when jsonb_typeof(line -> 'revision') <> 'number' or line ->> 'revision' !~ $5 then 'revision'
               when jsonb_typeof(line -> 'epoch') <> 'string' or line ->> 'epoch' !~ $6 then 'epoch'
             end as member from loom_stage_audit) judged
      where member is not null order by position limit 1`,
    [
      entryForms.event_id,
      entryForms.recorded_at,
      idempotencyKeyBytes.min,
      idempotencyKeyBytes.max,
      entryForms.revision,
      entryForms.epoch,
    ],
  );
  if (bad !== undefined) throw malformedEntry(BACKUP, bad.position, bad.member, bad.seq);
}

async function checkChain(queries: Queries, manifest: BackupManifest): Promise<void> {
  const previous = manifest.audit_first ?? { seq: 1, previous_hash: GENESIS_HASH };
  const broken = await queries.firstRow<{ position: number; seq: number; expected_seq: number }>(
    `select position, seq, expected_seq
       from (select position, seq, hash,
                    coalesce(lag(seq) over chain + 1, $1) as expected_seq,
                    loom_chain_hash(coalesce(lag(hash) over chain, decode($2, 'hex')), line - 'hash') as expected_hash
               from loom_stage_audit window chain as (order by position)) linked
      where seq <> expected_seq or hash <> expected_hash
      order by position limit 1`,
    [previous.seq, previous.previous_hash],
  );
  if (broken !== undefined) throw brokenLink(BACKUP, broken.position, broken.seq, broken.expected_seq);
  await checkUniqueness(queries);
  const last = await queries.firstRow<AuditHead>(
    `select seq, encode(hash, 'hex') as hash from loom_stage_audit order by position desc limit 1`,
  );
  const { seq, hash } = last ?? EMPTY_HEAD;
  const { audit_head: expected } = manifest;
  if (seq !== expected.seq || hash !== expected.hash) throw headMismatch(BACKUP, seq, expected.seq);
}

async function checkUniqueness(queries: Queries): Promise<void> {
  const twice = await queries.firstRow<{ position: number; seq: number; member: string }>(
    `select position, seq, member
       from (select position, seq, member, row_number() over (partition by member, line ->> member order by position) as nth
               from loom_stage_audit, unnest(array['event_id', 'idempotency_key']) as member
              where line ? member) numbered
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
       from (select position, line ->> 'prev_hash' as prev_hash, lag(line ->> 'hash') over (order by position) as hash
               from loom_stage_audit where line ? 'prev_hash') linked
      where position > 1 and prev_hash is distinct from hash
      order by position limit 1`,
  );
  return unlinked?.position;
}
