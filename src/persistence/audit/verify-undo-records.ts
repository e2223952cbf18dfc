import type { AuditMismatch } from '../../domain/audit.ts';
import type { UndoRecord } from '../../domain/undo.ts';
import { limits } from '../../limits.ts';
import type { Connection } from '../connection/connection.ts';
import { findRecordFault, type NamedUndoRecord, readUndoRecords } from '../state/undo-digest.ts';
import { type CheckedChanges, COUNTED, LIST_LIMIT, type Mismatches, toMismatches } from './verify-changes.ts';

/**
 * Compares the undo records with the digests that the newest restore or undo names, and their other columns with what
 * they keep. A record without a digest, of a node of an older version, is left out.
 */
export async function checkUndoRecords(
  connection: Connection,
  stateKey: string,
  { lastOperationSeq }: CheckedChanges,
): Promise<Mismatches> {
  const records = await readUndoRecords(connection, stateKey);
  const newest = await connection.firstRow<{ named: NamedUndoRecord[] | null }>(
    `select case when jsonb_typeof(entry -> action -> 'undo_records') = 'array'
                 then jsonb_path_query_array(entry -> action -> 'undo_records', '$[*] ? (@.event_id.type() == "string")') end as named
       from loom_audit where state_key = $1 and seq = $2`,
    [stateKey, lastOperationSeq],
  );
  const named = newest === undefined ? [] : (newest.named ?? undefined);
  const listed: AuditMismatch[] = [];
  for (const record of records) {
    const fault =
      (await findRecordFault(connection, stateKey, named, record)) ??
      (await findColumnFault(connection, stateKey, record));
    if (fault !== undefined) listed.push(describe(record.event_id, fault));
  }
  for (const missing of findRemoved(named ?? [], records)) {
    listed.push(describe(missing, 'It is missing, and no later restore has replaced it.'));
  }
  const orphans = await findOrphans(connection, stateKey);
  return { count: listed.length + orphans.count, listed: [...listed, ...orphans.listed] };
}

function describe(eventId: string, fault: string): AuditMismatch {
  const detail = `The undo record ${eventId} was changed in the database. ${fault}`;
  return { reason: 'undo_record_mismatch', event_id: eventId, detail };
}

/**
 * Returns the named records that are missing although they must be there. The operation that names them has removed
 * records only if enough newer ones are kept.
 */
function findRemoved(named: NamedUndoRecord[], records: UndoRecord[]): string[] {
  const removed: string[] = [];
  let substantial = 0;
  let empty = 0;
  for (const { event_id: eventId } of named) {
    const record = records.find((one) => one.event_id === eventId);
    if (record === undefined) {
      if (substantial < limits.maxUndoRecords && empty < limits.maxEmptyUndoRecords) removed.push(eventId);
      substantial += 1;
    } else if (record.substantial) substantial += 1;
    else empty += 1;
  }
  return removed;
}

/**
 * Checks the columns that the digest does not cover: the time, and whether the record is substantial. A later restore
 * may have removed the record's audit entry. Then the entry is in the record of that restore.
 */
async function findColumnFault(
  connection: Connection,
  stateKey: string,
  { event_id, revision, taken_at }: UndoRecord,
): Promise<string | undefined> {
  // Nodes of an earlier version count an entry with changes of a restore as substantial.
  const row = await connection.firstRow<{ is_substantial: boolean; recorded_at: string | null }>(
    `select case when s.documents > 0 or k.commits > 0 then s.substantial
                 when k.changes > 0 then true else not s.substantial end as is_substantial,
            coalesce((select entry ->> 'recorded_at' from loom_audit where state_key = $1 and event_id = $3),
                     (select max(entry ->> 'recorded_at') from loom_snapshot_audit
                       where state_key = $1 and entry ->> 'event_id' = $3::text)) as recorded_at
       from loom_snapshot s,
            (select count(*) filter (where entry ->> 'action' not in ('restore', 'restore.changes', 'undo', 'undo.changes')) as commits,
                    count(*) filter (where entry ->> 'action' in ('restore.changes', 'undo.changes')) as changes
               from loom_snapshot_audit where state_key = $1 and revision = $2) k
      where s.state_key = $1 and s.revision = $2`,
    [stateKey, revision, event_id],
  );
  if (row?.recorded_at !== null && row?.recorded_at !== taken_at)
    return 'Its time differs from that of its audit entry.';
  return row.is_substantial ? undefined : 'Its column "substantial" does not match what it keeps.';
}

/** Finds documents and entries that are kept without an undo record. */
async function findOrphans(connection: Connection, stateKey: string): Promise<Mismatches> {
  const rows = await connection.rows<{ count: number; revision: number; rows: number }>(
    `select revision, count(*) as rows, ${COUNTED}
       from (select revision from loom_snapshot_document where state_key = $1
              union all
             select revision from loom_snapshot_audit where state_key = $1) kept
      where revision not in (select revision from loom_snapshot where state_key = $1)
      group by revision order by revision ${LIST_LIMIT}`,
    [stateKey],
  );
  return toMismatches(rows, ({ revision, rows: kept }) => ({
    reason: 'undo_record_mismatch',
    detail: `The undo record of revision ${revision} is missing. ${kept} rows that it kept are still there.`,
  }));
}
