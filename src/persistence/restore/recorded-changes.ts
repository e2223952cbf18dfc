import type { AuditHead } from '../../domain/audit.ts';
import { limits } from '../../limits.ts';
import type { Queries } from '../connection/connection.ts';
import type { AppendedEntry, OperationEntry } from './operation-entry.ts';

/** Bytes of a change in an entry, besides the name and the document: its other members, and their separators. */
const CHANGE_BYTES = 192;

/**
 * Stages each document that is not what the trail says of it last, and returns the number of them. The operation's own
 * entry names this number, and `appendRecordedChanges` writes the documents into the trail. So the trail alone leads to
 * the documents. Call it when trail and documents have changed.
 *
 * A document that is not staged in `loom_stage_last` was what the trail says. So it differs if the operation changed
 * it.
 */
export async function stageRecordedChanges(queries: Queries, stateKey: string): Promise<number> {
  const recorded = await queries.execute(
    `insert into loom_stage_recorded (chunk, name, op, revision, sha256)
     select ((sum(size) over (order by name))::bigint - size) / $2, name, op, revision, sha256
       from (select n.name, case when d.name is null then 'delete' else 'put' end as op, d.revision, d.sha256,
                    coalesce(d.bytes, 0) + octet_length(to_json(n.name)::text) + ${CHANGE_BYTES} as size
               from (select name from loom_stage_change union select name from loom_stage_last) n
               left join loom_stage_last t on t.name = n.name
               left join loom_document d on d.state_key = $1 and d.name = n.name
              where case when t.name is null then true
                         when d.name is null then t.op <> 'delete'
                         else t.sha256 is distinct from d.sha256 or t.revision is distinct from d.revision end) r`,
    [stateKey, limits.recordedChangesBytes],
  );
  await queries.execute('analyze loom_stage_recorded');
  return recorded;
}

/**
 * Appends the staged changes after the operation's own entry, in entries of some MiB, and indexes them. Returns the new
 * head. A change has a revision of its own if that of the document is not the operation's. PostgreSQL looks up each
 * document, because a join would read all documents again for each entry.
 */
export async function appendRecordedChanges(
  queries: Queries,
  { action, stateKey, revision, epoch, requestId, caller }: OperationEntry,
  { eventId, head, recordedAt }: AppendedEntry,
): Promise<AuditHead> {
  const last = await queries.firstRow<AuditHead>(
    `with chunks as materialized (
       select chunk, $2::bigint + row_number() over (order by chunk) as seq, gen_random_uuid() as event_id
         from (select distinct chunk from loom_stage_recorded) c
     ), entries as (
       select seq, event_id, $6::jsonb || jsonb_build_object('seq', seq, 'event_id', event_id, 'recorded_at', $4::text,
                'action', $5 || '.changes', 'request_id', $7::text, 'revision', $8::bigint, 'epoch', $9::text,
                'operation_event_id', $10::text, 'changes', (
                  select jsonb_agg(change)
                    from (select case when r.op = 'delete' then jsonb_build_object('op', r.op, 'name', r.name)
                                      when r.revision = $8 then jsonb_build_object('op', r.op, 'name', r.name,
                                        'value', d.value, 'sha256', encode(r.sha256, 'hex'))
                                      else jsonb_build_object('op', r.op, 'name', r.name, 'value', d.value,
                                        'sha256', encode(r.sha256, 'hex'), 'revision', r.revision) end as change
                            from loom_stage_recorded r
                            left join lateral (
                                   select value from loom_document d where d.state_key = $1 and d.name = r.name offset 0) d on true
                           where r.chunk = chunks.chunk order by r.name) c)) as entry
         from chunks offset 0
     ), appended as (
       insert into loom_audit (state_key, seq, event_id, recorded_at, action, entry, hash)
       select $1, seq, event_id, $4::timestamptz, $5 || '.changes', entry,
              loom_chain_after(decode($3, 'hex'), entry) over (order by seq)
         from entries
       returning seq, hash
     ), indexed as (
       insert into loom_change (state_key, name, seq, revision, op, sha256)
       select $1, r.name, c.seq, coalesce(r.revision, $8), r.op, r.sha256
         from loom_stage_recorded r join chunks c using (chunk)
     )
     select seq, encode(hash, 'hex') as hash from appended order by seq desc limit 1`,
    [stateKey, head.seq, head.hash, recordedAt, action, caller, requestId, revision, epoch, eventId],
  );
  return last ?? head;
}
