import type { PoolClient } from 'pg';
import type { AuditHead } from '../../domain/audit.ts';
import { limits } from '../../limits.ts';
import { rfc3339 } from '../connection/timestamp.ts';

export interface ImportEntry {
  stateKey: string;
  /** The head that the first one is linked to. */
  after: AuditHead;
  revision: number;
  epoch: string;
  requestId: string;
  /** What each entry says of where its original comes from. */
  origin: { verified: boolean; instance_id: string | null; state_key: string | null };
}

/** Appends the missing entries, each inside an entry of its own, and answers the new head. */
export async function importEntries(client: PoolClient, { after, ...entry }: ImportEntry): Promise<AuditHead> {
  const { rows } = await client.query<AuditHead>(
    `with moment as (
       select clock_timestamp() as at
     ), missing as materialized (
       select $2 + row_number() over (order by position) as seq, gen_random_uuid() as event_id, at, position, line
         from loom_stage_audit join loom_stage_missing using (position), moment
     ), imports as (
       select seq, event_id, at, jsonb_build_object('seq', seq, 'event_id', event_id,
                'recorded_at', ${rfc3339('at')},
                'action', 'audit.import', 'actor', 'admin', 'request_id', $4::text, 'revision', $5::bigint, 'epoch', $6::text,
                'changes', '[]'::jsonb, 'import', $7::jsonb || jsonb_build_object('position', position,
                  'sha256', encode(loom_value_sha256(line), 'hex'), 'original', line)) as entry
         from missing
     ), appended as (
       insert into loom_audit (state_key, seq, event_id, recorded_at, action, entry, hash)
       select $1, seq, event_id, at, 'audit.import', entry, loom_chain_after(decode($3, 'hex'), entry) over (order by seq)
         from imports
       returning seq, hash
     )
     select seq, encode(hash, 'hex') as hash from appended order by seq desc limit 1`,
    [entry.stateKey, after.seq, after.hash, entry.requestId, entry.revision, entry.epoch, JSON.stringify(entry.origin)],
  );
  return rows[0] ?? after;
}

/** Adopts the backup's entries that come after the live head. */
export async function adoptEntries(client: PoolClient, stateKey: string, live: AuditHead): Promise<void> {
  await client.query(
    `insert into loom_audit (state_key, seq, event_id, idempotency_key, recorded_at, action, entry, hash)
     select $1, seq, (line ->> 'event_id')::uuid, line ->> 'idempotency_key', (line ->> 'recorded_at')::timestamptz,
            line ->> 'action', line - 'hash', hash
       from loom_stage_audit where seq > $2 order by seq`,
    [stateKey, live.seq],
  );
}

/**
 * The truncating restores among the entries after `seq`, and those that they took out in their turn, newest first: whoever takes them
 * out must say so, or nothing would explain any more where the entries went that they took out. What does not look as LOOM writes
 * it is left out: copied, it could make an entry that no backup may hold.
 */
export async function readTruncations(client: PoolClient, stateKey: string, seq: number): Promise<unknown[]> {
  const { rows } = await client.query<{ truncation: unknown }>(
    `with removed as (
       select entry from loom_audit
        where state_key = $1 and seq > $2 and action = 'restore' and entry #> '{restore,replaced_entries}' > '0'
     )
     select truncation from (
       select jsonb_build_object('seq', entry -> 'seq', 'recorded_at', entry -> 'recorded_at',
                'request_id', entry -> 'request_id', 'replaced_entries', entry #> '{restore,replaced_entries}',
                'previous_head', entry #> '{restore,previous_head}') as truncation
         from removed
        union
       select jsonb_array_elements(entry #> '{restore,replaced_restores}')
         from removed where jsonb_typeof(entry #> '{restore,replaced_restores}') = 'array'
     ) truncations
      where octet_length(truncation::text) <= $4 and not truncation @? '$.**{3}'
        and truncation @? '$ ? (@.recorded_at.type() == "string" && @.request_id.type() == "string" &&
              @.previous_head.seq.type() == "number" && @.previous_head.hash.type() == "string")'
      order by truncation ->> 'recorded_at' desc limit $3`,
    [stateKey, seq, limits.maxReplacedRestores, limits.maxReplacedRestoreBytes],
  );
  return rows.map(({ truncation }) => truncation);
}

/** Takes out the entries after `seq`. Nothing else does, but dropping a scratch state. */
export async function removeEntries(client: PoolClient, stateKey: string, seq: number): Promise<void> {
  await client.query(`select set_config('loom.audit_rewrite', 'restore', true)`);
  await client.query('delete from loom_audit where state_key = $1 and seq > $2', [stateKey, seq]);
  await client.query(`select set_config('loom.audit_rewrite', '', true)`);
}
