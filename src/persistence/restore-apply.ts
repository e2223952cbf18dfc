import type { PoolClient } from 'pg';
import type { AuditHead } from '../domain/audit.ts';
import type { AuditPlan } from './restore-plan.ts';

/** The state becomes exactly the staged documents; those that are equal are not rewritten. */
export async function applyDocuments(client: PoolClient, stateKey: string, revision: number): Promise<void> {
  await client.query(
    `delete from loom_document d
      where d.state_key = $1 and not exists (select from loom_stage_document s where s.name = d.name)`,
    [stateKey],
  );
  await client.query(
    `insert into loom_document as d (state_key, name, value, revision, updated_at)
     select $1, s.name, s.value, $2, now()
       from loom_stage_document s left join loom_document l on l.state_key = $1 and l.name = s.name
      where l.sha256 is distinct from s.sha256
     on conflict (state_key, name) do update
       set value = excluded.value, revision = excluded.revision, updated_at = excluded.updated_at`,
    [stateKey, revision],
  );
}

/** Takes out the live entries after the backup's head, or adopts the backup's entries after the live head, as planned. */
export async function applyAudit(
  client: PoolClient,
  stateKey: string,
  live: AuditHead,
  plan: AuditPlan,
): Promise<void> {
  if (plan.replace > 0) {
    await client.query(`select set_config('loom.audit_rewrite', 'restore', true)`);
    await client.query('delete from loom_audit where state_key = $1 and seq > $2', [stateKey, plan.linkTo.seq]);
    await client.query(`select set_config('loom.audit_rewrite', '', true)`);
  }
  if (plan.adopt > 0) {
    await client.query(
      `insert into loom_audit (state_key, seq, event_id, idempotency_key, recorded_at, action, entry, hash)
       select $1, seq, (line ->> 'event_id')::uuid, line ->> 'idempotency_key', (line ->> 'recorded_at')::timestamptz,
              line ->> 'action', line - 'hash', hash
         from loom_stage_audit where seq > $2 order by seq`,
      [stateKey, live.seq],
    );
  }
}

export interface RestoreEntry {
  stateKey: string;
  linkTo: AuditHead;
  eventId: string;
  revision: number;
  epoch: string;
  requestId: string;
  /** What the entry says of the restore. */
  restore: Record<string, unknown>;
}

/** Appends the restore's own entry and moves the state row to it; answers the new head and the time of the entry. */
export async function appendRestoreEntry(
  client: PoolClient,
  entry: RestoreEntry,
): Promise<{ head: AuditHead; recordedAt: string }> {
  const { rows } = await client.query<{ seq: number; hash: string; recorded_at: string }>(
    `with moment as (
       select clock_timestamp() as at
     ), entry as (
       select at, jsonb_build_object('seq', $2::bigint + 1, 'event_id', $4::text,
                'recorded_at', to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                'action', 'restore', 'actor', 'admin', 'request_id', $5::text, 'revision', $6::bigint, 'epoch', $7::text,
                'changes', '[]'::jsonb, 'restore', $8::jsonb) as entry
         from moment
     ), appended as (
       insert into loom_audit (state_key, seq, event_id, recorded_at, action, entry, hash)
       select $1, $2::bigint + 1, $4::uuid, at, 'restore', entry, loom_chain_hash(decode($3, 'hex'), entry) from entry
       returning seq, hash, recorded_at, entry
     ), counted as (
       select count(*) as documents, coalesce(sum(bytes), 0) as bytes from loom_document where state_key = $1
     )
     update loom_state s
        set revision = $6::bigint, epoch = $7::text, audit_seq = a.seq, audit_hash = a.hash, last_restore_at = a.recorded_at,
            documents = c.documents, bytes = c.bytes, updated_at = a.recorded_at
       from appended a, counted c
      where s.state_key = $1
     returning a.seq, encode(a.hash, 'hex') as hash, a.entry ->> 'recorded_at' as recorded_at`,
    [
      entry.stateKey,
      entry.linkTo.seq,
      entry.linkTo.hash,
      entry.eventId,
      entry.requestId,
      entry.revision,
      entry.epoch,
      JSON.stringify(entry.restore),
    ],
  );
  const row = rows[0];
  if (row === undefined) throw new Error('the restore entry moved no state row');
  return { head: { seq: row.seq, hash: row.hash }, recordedAt: row.recorded_at };
}
