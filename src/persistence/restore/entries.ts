import type { AuditHead } from '../../domain/audit.ts';
import { limits } from '../../limits.ts';
import type { Connection, Queries } from '../connection/connection.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import { STAGED_LINES } from './stage.ts';

export interface ImportEntry {
  stateKey: string;
  /** The head that the first entry is linked to. */
  after: AuditHead;
  revision: number;
  epoch: string;
  requestId: string;
  /** JSON of the members that name who requested the import. */
  caller: string;
  origin: ImportOrigin;
}

export interface ImportOrigin {
  verified: boolean;
  instance_id: string | null;
  state_key: string | null;
}

/** Appends each missing entry inside an `audit.import` entry, and returns the new head. */
export async function importEntries(queries: Queries, { after, ...entry }: ImportEntry): Promise<AuditHead> {
  const head = await queries.firstRow<AuditHead>(
    `with moment as (
       select clock_timestamp() as at
     ), missing as materialized (
       select $2 + row_number() over (order by position) as seq, gen_random_uuid() as event_id, at, position, line
         from ${STAGED_LINES} staged join loom_stage_missing using (position), moment
     ), imports as (
       select seq, event_id, at, $8::jsonb || jsonb_build_object('seq', seq, 'event_id', event_id,
                'recorded_at', ${rfc3339('at')},
                'action', 'audit.import', 'request_id', $4::text, 'revision', $5::bigint, 'epoch', $6::text,
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
    [
      entry.stateKey,
      after.seq,
      after.hash,
      entry.requestId,
      entry.revision,
      entry.epoch,
      JSON.stringify(entry.origin),
      entry.caller,
    ],
  );
  return head ?? after;
}

/**
 * Adopts the backup's entries after the live head unchanged, with seq and hash, and indexes their changes. PostgreSQL
 * reads the staged entries in the order in which they were copied, which is that of the trail, without sorting them.
 */
export async function adoptEntries(connection: Connection, stateKey: string, live: AuditHead): Promise<void> {
  const pausing = await connection.pausingAt('position', 'entry');
  await connection.execute(
    `insert into loom_audit (state_key, seq, event_id, idempotency_key, recorded_at, action, entry, hash)
     select $1, seq, event_id, idempotency_key, recorded_at, coalesce(action, entry ->> 'action'), entry, hash
       from loom_stage_audit s where seq > $2${pausing}`,
    [stateKey, live.seq],
  );
  // As loom_index_changes does, but without reading the entries whose changes the node has read. In the order of the
  // primary key, PostgreSQL fills each page of its index once. The offset keeps the pauses behind the sort.
  await connection.execute(
    `insert into loom_change (state_key, name, seq, revision, op, sha256)
     select $1, name, seq, revision, op, sha256
       from (select * from (select change_name as name, seq, change_revision as revision, change_op as op, change_sha256 as sha256
               from loom_stage_audit where seq > $2 and change_op is not null
              union all
             select c.name, s.seq, c.revision, c.op, c.sha256
               from loom_stage_audit s cross join lateral (
                      select * from loom_entry_changes(s.entry)
                       union all
                      select '', 0, 'unknown', null where not loom_entry_is_told(s.entry)) c
              where s.seq > $2 and s.change_op is null) changes
      order by name, seq offset bigint '0') ordered where true${await connection.pausingAt('seq', 'ordered')}`,
    [stateKey, live.seq],
  );
}

/**
 * Tells the triggers of `loom_audit`, until the transaction ends, that this transaction keeps `loom_change` itself.
 * PostgreSQL would otherwise index entry by entry.
 */
export async function keepIndex(queries: Queries): Promise<void> {
  await queries.execute(`select set_config('loom.changes', 'kept', true)`);
}

/**
 * Reads the truncating restores among the entries after `seq`, and those that these list in turn, newest first. A
 * restore that removes these entries lists them, to explain the gaps that they left. A later entry lists only earlier
 * restores, so its position gives the order; the clock may have been set back. Entries of another form than
 * LOOM's are skipped, because a copy of them could make the list too large for a backup.
 */
export async function readTruncations(queries: Queries, stateKey: string, seq: number): Promise<unknown[]> {
  const rows = await queries.rows<{ truncation: unknown }>(
    `with removed as (
       select seq, entry from loom_audit
        where state_key = $1 and seq > $2 and action = 'restore' and entry #> '{restore,replaced_entries}' > '0'
     )
     select truncation from (
       select seq as listed_by, 0 as place, jsonb_build_object('seq', entry -> 'seq', 'recorded_at', entry -> 'recorded_at',
                'request_id', entry -> 'request_id', 'replaced_entries', entry #> '{restore,replaced_entries}',
                'previous_head', entry #> '{restore,previous_head}') as truncation
         from removed
        union all
       select seq, place, truncation
         from removed, jsonb_array_elements(case when jsonb_typeof(entry #> '{restore,replaced_restores}') = 'array'
                then entry #> '{restore,replaced_restores}' end) with ordinality as listed (truncation, place)
     ) truncations
      where octet_length(truncation::text) <= $4 and not truncation @? '$.**{3}'
        and truncation @? '$ ? (@.recorded_at.type() == "string" && @.request_id.type() == "string" &&
              @.previous_head.seq.type() == "number" && @.previous_head.hash.type() == "string")'
      group by truncation
      order by max(listed_by) desc, min(place) limit $3`,
    [stateKey, seq, limits.maxReplacedRestores, limits.maxReplacedRestoreBytes],
  );
  return rows.map(({ truncation }) => truncation);
}

/**
 * Removes the entries after `seq`, and their rows in the index. Only a truncating restore and the drop of a scratch
 * state do this. The function runs as the owner of the tables: a node's role need not have the right to change entries.
 */
export async function removeEntries(queries: Queries, stateKey: string, seq: number): Promise<void> {
  await queries.execute('select loom_remove_entries($1, $2)', [stateKey, seq]);
  await queries.execute('delete from loom_change where state_key = $1 and seq > $2', [stateKey, seq]);
}
