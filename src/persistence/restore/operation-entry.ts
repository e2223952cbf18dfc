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
  /** JSON of the members that name who requested the operation. */
  caller: string;
  /** Describes the operation. The entry contains it in a member named like the action. */
  detail: Record<string, unknown>;
}

export interface AppendedEntry {
  eventId: string;
  head: AuditHead;
  recordedAt: string;
}

/** Appends the operation's own entry. */
export async function appendOperationEntry(queries: Queries, entry: OperationEntry): Promise<AppendedEntry> {
  const { action, stateKey, linkTo, eventId, revision, epoch, requestId, caller } = entry;
  const detail = JSON.stringify(entry.detail);
  // All lists in it are bounded far below this.
  if (Buffer.byteLength(detail) > limits.maxAuditEntryBytes) throw new Error(`the entry of the ${action} is too large`);
  const row = await queries.firstRow<{ seq: number; hash: string; recorded_at: string }>(
    `with moment as (
       select clock_timestamp() as at
     ), entry as (
       select at, jsonb_build_object('seq', $2::bigint + 1, 'event_id', $4::text,
                'recorded_at', ${rfc3339('at')},
                'action', $9::text, 'request_id', $5::text, 'revision', $6::bigint, 'epoch', $7::text,
                'changes', '[]'::jsonb, $9::text, $8::jsonb) || $10::jsonb as entry
         from moment
     ), appended as (
       insert into loom_audit (state_key, seq, event_id, recorded_at, action, entry, hash)
       select $1, $2::bigint + 1, $4::uuid, at, $9, entry, loom_chain_hash(decode($3, 'hex'), entry) from entry
       returning seq, hash, recorded_at, entry
     )
     select seq, encode(hash, 'hex') as hash, entry ->> 'recorded_at' as recorded_at from appended`,
    [stateKey, linkTo.seq, linkTo.hash, eventId, requestId, revision, epoch, detail, action, caller],
  );
  if (row === undefined) throw new Error('an insert returns its row');
  const { seq, hash, recorded_at: recordedAt } = row;
  return { eventId, head: { seq, hash }, recordedAt };
}

/** Moves the state row to the end of the operation, whose last entry is `head`. */
export async function advanceState(
  queries: Queries,
  { stateKey, revision, epoch }: Pick<OperationEntry, 'stateKey' | 'revision' | 'epoch'>,
  { head, recordedAt }: Pick<AppendedEntry, 'head' | 'recordedAt'>,
): Promise<void> {
  const row = await queries.firstRow(
    `update loom_state s
        set revision = $2, epoch = $3, audit_seq = $4, audit_hash = decode($5, 'hex'), last_restore_at = $6,
            documents = c.documents, bytes = c.bytes, updated_at = $6
       from (select count(*) as documents, coalesce(sum(bytes), 0) as bytes from loom_document where state_key = $1) c
      where s.state_key = $1
     returning s.state_key`,
    [stateKey, revision, epoch, head.seq, head.hash, recordedAt],
  );
  requireState(row);
}
