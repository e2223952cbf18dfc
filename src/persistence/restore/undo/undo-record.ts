import type { UndoRecord } from '../../../domain/undo.ts';
import { limits } from '../../../limits.ts';
import type { Queries } from '../../connection/connection.ts';

/** Keeps the live value of each document that is staged to change; null for a document that does not exist. */
export async function keepDocuments(queries: Queries, stateKey: string, revision: number): Promise<void> {
  await queries.execute(
    `insert into loom_snapshot_document (state_key, revision, name, value)
     select $1, $2, c.name, d.value
       from loom_stage_change c left join loom_document d on d.state_key = $1 and d.name = c.name`,
    [stateKey, revision],
  );
}

/** Keeps the live entries after `seq`, which are about to be removed. */
export async function keepEntries(queries: Queries, stateKey: string, revision: number, seq: number): Promise<void> {
  await queries.execute(
    `insert into loom_snapshot_audit (state_key, revision, seq, entry, hash)
     select $1, $2, seq, entry, hash from loom_audit where state_key = $1 and seq > $3`,
    [stateKey, revision, seq],
  );
}

/**
 * Writes the undo record of what was kept under `record.revision`, and keeps only the newest `limits.maxUndoRecords`
 * substantial ones. Records that replaced nothing do not count, so a repeated restore does not evict the first. At most
 * `limits.maxEmptyUndoRecords` of them stay.
 */
export async function sealUndoRecord(
  queries: Queries,
  stateKey: string,
  record: Omit<UndoRecord, 'documents' | 'audit_entries' | 'bytes' | 'substantial'>,
): Promise<void> {
  const { revision, event_id, kind, taken_at, previous_revision, replaced_state } = record;
  await queries.execute(
    `insert into loom_snapshot (state_key, revision, event_id, kind, taken_at, previous_revision, replaced_state,
                                documents, audit_entries, bytes, substantial)
     select $1, $2, $3, $4, $5, $6, $7, d.count, a.count, d.bytes + a.bytes, d.count > 0 or a.commits > 0
       from (select count(*), coalesce(sum(pg_column_size(value)), 0) as bytes
               from loom_snapshot_document where state_key = $1 and revision = $2) d,
            (select count(*), coalesce(sum(pg_column_size(entry)), 0) as bytes,
                    count(*) filter (where entry ->> 'action' not in ('restore', 'restore.changes', 'undo', 'undo.changes')) as commits
               from loom_snapshot_audit where state_key = $1 and revision = $2) a`,
    [stateKey, revision, event_id, kind, taken_at, previous_revision, replaced_state],
  );
  await queries.execute(
    `with old as materialized (
       select revision
         from (select revision, substantial,
                      count(*) filter (where substantial) over (order by revision desc) as newer,
                      row_number() over (partition by substantial order by revision desc) as place
                 from loom_snapshot where state_key = $1) placed
        where newer > $2 or (newer = $2 and not substantial) or (not substantial and place > $3)
     ), documents as (
       delete from loom_snapshot_document d using old where d.state_key = $1 and d.revision = old.revision
     ), entries as (
       delete from loom_snapshot_audit a using old where a.state_key = $1 and a.revision = old.revision
     )
     delete from loom_snapshot s using old where s.state_key = $1 and s.revision = old.revision`,
    [stateKey, limits.maxUndoRecords, limits.maxEmptyUndoRecords],
  );
}
