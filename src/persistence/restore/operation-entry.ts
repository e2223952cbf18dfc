import type { AuditHead } from '../../domain/audit.ts';
import { limits } from '../../limits.ts';
import type { Queries } from '../connection/connection.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import { requireState } from '../state/state-row.ts';

export interface OperationEntry {
  action: 'restore' | 'undo';
  stateKey: string;
  linkTo: AuditHead;
  eventId: string;
  revision: number;
  epoch: string;
  requestId: string;
  /** Describes the operation. The entry contains it in a member named like the action. */
  detail: Record<string, unknown>;
}

export interface AppendedEntry {
  eventId: string;
  head: AuditHead;
  recordedAt: string;
}

/** Appends the operation's own entry, and updates the state row. */
export async function appendOperationEntry(queries: Queries, entry: OperationEntry): Promise<AppendedEntry> {
  const { action, stateKey, linkTo, eventId, revision, epoch, requestId } = entry;
  const detail = JSON.stringify(entry.detail);
  // All lists in it are bounded far below this.
  if (Buffer.byteLength(detail) > limits.maxAuditEntryBytes) throw new Error(`the entry of the ${action} is too large`);
  const row = await queries.firstRow<{ seq: number; hash: string; recorded_at: string }>(
    `with moment as (
       select clock_timestamp() as at
     ), entry as (
       select at, jsonb_build_object('seq', $2::bigint + 1, 'event_id', $4::text,
                'recorded_at', ${rfc3339('at')},
                'action', $9::text, 'actor', 'admin', 'request_id', $5::text, 'revision', $6::bigint, 'epoch', $7::text,
                'changes', '[]'::jsonb, $9::text, $8::jsonb) as entry
         from moment
     ), appended as (
       insert into loom_audit (state_key, seq, event_id, recorded_at, action, entry, hash)
       select $1, $2::bigint + 1, $4::uuid, at, $9, entry, loom_chain_hash(decode($3, 'hex'), entry) from entry
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
    [stateKey, linkTo.seq, linkTo.hash, eventId, requestId, revision, epoch, detail, action],
  );
  const { seq, hash, recorded_at: recordedAt } = requireState(row);
  return { eventId, head: { seq, hash }, recordedAt };
}
