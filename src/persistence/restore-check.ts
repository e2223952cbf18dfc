import type { PoolClient, QueryResultRow } from 'pg';
import type { CheckedBackup } from '../backup/check.ts';
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
} from '../backup/faults.ts';
import { type AuditHead, GENESIS_HASH } from '../domain/audit.ts';
import { limits } from '../limits.ts';

/** Where the backup stands in the body of a restore. */
const BACKUP = '/backup';

/**
 * Checks what was staged against the manifest: counts, digests, then the chain. Throws the first fault with its own code,
 * naming the document or the seq. Nothing outside the staging tables is read or changed.
 */
export async function checkStage(client: PoolClient, backup: CheckedBackup): Promise<void> {
  await checkDocuments(client, backup);
  if (backup.hasAudit) {
    await checkEntryForms(client);
    await checkEntryCount(client, backup);
    await checkChain(client, backup);
  }
}

async function checkDocuments(client: PoolClient, { manifest }: CheckedBackup): Promise<void> {
  const twice = await first<{ name: string }>(
    client,
    `select name from loom_stage_document group by name having count(*) > 1 order by name limit 1`,
  );
  if (twice !== undefined) {
    throw duplicateDocument(twice.name);
  }
  const digestTwice = await first<{ name: string }>(
    client,
    `select name from loom_stage_digest group by name having count(*) > 1 order by name limit 1`,
  );
  if (digestTwice !== undefined) {
    throw duplicateDigest(digestTwice.name);
  }
  await checkDigests(client);
  const state = await first<{ documents: number; sha256: string }>(
    client,
    `select count(*) as documents,
            encode(sha256(coalesce(string_agg(sha256(convert_to(name, 'UTF8')) || sha256, ''::bytea order by name), '')), 'hex')
              as sha256
       from loom_stage_document`,
  );
  if (state?.documents !== manifest.documents) {
    throw documentCountMismatch(BACKUP, manifest.documents, state?.documents ?? 0);
  }
  if (state.sha256 !== manifest.state_sha256) {
    throw stateDigestMismatch(BACKUP);
  }
}

async function checkDigests(client: PoolClient): Promise<void> {
  const wrong = await first<{ name: string; fault: 'lost' | 'added' | 'changed' }>(
    client,
    `select name, case when s.sha256 is null then 'lost' when d.sha256 is null then 'added' else 'changed' end as fault
       from loom_stage_document s full join loom_stage_digest d using (name)
      where encode(s.sha256, 'hex') is distinct from d.sha256
      order by name limit 1`,
  );
  if (wrong !== undefined) throw digestMismatch(wrong.name, wrong.fault);
}

/** Columns are made of these members when entries are adopted, so each must have the form that LOOM writes. */
async function checkEntryForms(client: PoolClient): Promise<void> {
  const bad = await first<{ position: number; seq: number | null; member: string }>(
    client,
    `select position, seq, member
       from (select position, seq, case
               when seq is null then 'seq'
               when hash is null then 'hash'
               when coalesce(line ->> 'event_id' !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$', true) then 'event_id'
               when coalesce(line ->> 'recorded_at' !~ '^(?!0000)\\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])T([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d\\.\\d{6}Z$', true)
                 then 'recorded_at'
               when substr(line ->> 'recorded_at', 9, 2)::int >
                    extract(day from (substr(line ->> 'recorded_at', 1, 7) || '-01')::date + interval '1 month - 1 day')
                 then 'recorded_at'
               when coalesce(jsonb_typeof(line -> 'action') <> 'string', true) then 'action'
               when jsonb_typeof(line -> 'idempotency_key') <> 'string'
                 or octet_length(line ->> 'idempotency_key') not between 1 and $1 then 'idempotency_key'
             end as member from loom_stage_audit) judged
      where member is not null order by position limit 1`,
    [limits.idempotencyKeyBytes],
  );
  if (bad !== undefined) throw malformedEntry(BACKUP, bad.position, bad.member, bad.seq);
}

async function checkEntryCount(client: PoolClient, { manifest }: CheckedBackup): Promise<void> {
  const counted = await first<{ entries: number }>(client, 'select count(*) as entries from loom_stage_audit');
  if (counted?.entries === manifest.audit_entries && counted.entries > 0 === (manifest.audit_first !== null)) return;
  throw entryCountMismatch(BACKUP, manifest.audit_entries, counted?.entries ?? 0);
}

async function checkChain(client: PoolClient, { manifest }: CheckedBackup): Promise<void> {
  const previous = manifest.audit_first ?? { seq: 1, previous_hash: GENESIS_HASH };
  const broken = await first<{ seq: number; expected_seq: number }>(
    client,
    `select seq, expected_seq
       from (select position, seq, hash,
                    coalesce(lag(seq) over chain + 1, $1) as expected_seq,
                    loom_chain_hash(coalesce(lag(hash) over chain, decode($2, 'hex')), line - 'hash') as expected_hash
               from loom_stage_audit window chain as (order by position)) linked
      where seq <> expected_seq or hash <> expected_hash
      order by position limit 1`,
    [previous.seq, previous.previous_hash],
  );
  if (broken !== undefined) throw brokenLink(broken.seq, broken.expected_seq);
  await checkUniqueness(client);
  const head = await first<AuditHead>(
    client,
    `select seq, encode(hash, 'hex') as hash from loom_stage_audit order by position desc limit 1`,
  );
  const { audit_head: expected } = manifest;
  if (head === undefined ? expected.seq === 0 : head.seq === expected.seq && head.hash === expected.hash) return;
  throw headMismatch(head?.seq ?? 0, expected.seq);
}

async function checkUniqueness(client: PoolClient): Promise<void> {
  const twice = await first<{ seq: number; member: string }>(
    client,
    `select max(seq) as seq, 'event_id' as member from loom_stage_audit group by line ->> 'event_id' having count(*) > 1
      union all
     select max(seq), 'idempotency_key' from loom_stage_audit
      where line ? 'idempotency_key' group by line ->> 'idempotency_key' having count(*) > 1
      limit 1`,
  );
  if (twice !== undefined) throw repeatedMember(twice.seq, twice.member);
}

async function first<Row extends QueryResultRow>(
  client: PoolClient,
  text: string,
  values: unknown[] = [],
): Promise<Row | undefined> {
  return (await client.query<Row>(text, values)).rows[0];
}
