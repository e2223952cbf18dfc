import type { PoolClient, QueryResultRow } from 'pg';
import type { CheckedBackup } from '../backup/check.ts';
import { type AuditHead, GENESIS_HASH } from '../domain/audit.ts';
import { LoomError } from '../errors.ts';
import { limits } from '../limits.ts';

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
    throw new LoomError('backup_duplicate_document', `Document ${quote(twice.name)} stands in the backup twice.`, {
      document: twice.name,
    });
  }
  const digestTwice = await first<{ name: string }>(
    client,
    `select name from loom_stage_digest group by name having count(*) > 1 order by name limit 1`,
  );
  if (digestTwice !== undefined) {
    throw new LoomError('duplicate_member', `document_sha256 has ${quote(digestTwice.name)} twice.`, {
      document: digestTwice.name,
    });
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
    throw new LoomError(
      'backup_count_mismatch',
      `The manifest counts ${manifest.documents} documents, and the backup holds ${state?.documents ?? 0}.`,
      { pointer: '/backup/manifest/documents' },
    );
  }
  if (state.sha256 !== manifest.state_sha256) {
    throw new LoomError('backup_digest_mismatch', 'The digest of the state does not hold.', {
      pointer: '/backup/manifest/state_sha256',
    });
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
  if (wrong === undefined) return;
  const faults = {
    lost: `Document ${quote(wrong.name)} is missing: the backup has its digest, but not the document.`,
    added: `Document ${quote(wrong.name)} was added: the backup has no digest of it.`,
    changed: `Document ${quote(wrong.name)} is not as it was exported: its digest does not hold.`,
  };
  throw new LoomError('backup_digest_mismatch', faults[wrong.fault], { document: wrong.name });
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
  if (bad === undefined) return;
  throw new LoomError('backup_malformed', `Audit entry ${bad.position} of the backup has no valid "${bad.member}".`, {
    pointer: `/backup/audit_entries/${bad.position - 1}/${bad.member}`,
    ...(bad.seq === null ? {} : { seq: bad.seq }),
  });
}

async function checkEntryCount(client: PoolClient, { manifest }: CheckedBackup): Promise<void> {
  const counted = await first<{ entries: number }>(client, 'select count(*) as entries from loom_stage_audit');
  if (counted?.entries === manifest.audit_entries && counted.entries > 0 === (manifest.audit_first !== null)) return;
  throw new LoomError(
    'backup_count_mismatch',
    `The manifest counts ${manifest.audit_entries} audit entries, and the backup holds ${counted?.entries ?? 0}.`,
    { pointer: '/backup/manifest/audit_entries' },
  );
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
  if (broken !== undefined) throw chainBroken(broken.seq, broken.expected_seq);
  await checkUniqueness(client);
  const head = await first<AuditHead>(
    client,
    `select seq, encode(hash, 'hex') as hash from loom_stage_audit order by position desc limit 1`,
  );
  const { audit_head: expected } = manifest;
  if (head === undefined ? expected.seq === 0 : head.seq === expected.seq && head.hash === expected.hash) return;
  throw new LoomError(
    'backup_chain_broken',
    `The chain ends at seq ${head?.seq ?? 0}, and the manifest names entry ${expected.seq} as its head.`,
    { seq: expected.seq },
  );
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
  if (twice === undefined) return;
  throw new LoomError('backup_malformed', `Audit entry ${twice.seq} repeats the ${twice.member} of an earlier one.`, {
    seq: twice.seq,
  });
}

function chainBroken(seq: number, expectedSeq: number): LoomError {
  if (seq !== expectedSeq) {
    return new LoomError('backup_chain_broken', `Audit entry ${seq} stands where entry ${expectedSeq} must.`, {
      seq: expectedSeq,
    });
  }
  return new LoomError(
    'backup_chain_broken',
    `The hash of audit entry ${seq} is not that of its content after the hash of the entry before it.`,
    { seq },
  );
}

async function first<Row extends QueryResultRow>(
  client: PoolClient,
  text: string,
  values: unknown[] = [],
): Promise<Row | undefined> {
  return (await client.query<Row>(text, values)).rows[0];
}

function quote(name: string): string {
  return JSON.stringify(name);
}
