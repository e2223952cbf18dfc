// persistence/restore/undo/ keeps what restores replace, and undoes restores. It imports ../ for the steps of an
// operation. Only undo-record.ts and state/undo-digest.ts know the tables of undo records, except for staging them.

import type { UndoOptions } from '../../../domain/request.ts';
import type { StateHead } from '../../../domain/state.ts';
import type { ChangeContext } from '../../../domain/store.ts';
import type { UndoRecord, UndoReport } from '../../../domain/undo.ts';
import { LoomError } from '../../../errors.ts';
import type { Connection, Queries } from '../../connection/connection.ts';
import type { Database } from '../../connection/database.ts';
import { createEpoch } from '../../state/identifiers.ts';
import { lockRestores } from '../../state/restore-lock.ts';
import { readStateHead } from '../../state/state-row.ts';
import { damaged, readAnchor, readUndoRecords, verifyUndoRecords } from '../../state/undo-digest.ts';
import { type DocumentsPlan, readStagedChanges } from '../documents.ts';
import { carryOut, openOperation } from '../operation.ts';
import { analyzeStage, createStage } from '../stage.ts';
import { stageMissing, unchangedTrail } from '../trail.ts';
import { describeUndo, reportUndo, type UndoPlan } from './undo-report.ts';

/**
 * Undoes the last restore or undo, or all from a named one on, in one commit. Each document that they changed gets the
 * value from before the first of them. Entries that they removed come back as `audit.import`. Other documents stay
 * unchanged. The undo writes its own undo record. Throws `nothing_to_undo`.
 */
export function undo(
  database: Database,
  { dryRun, expectRevision, eventId }: UndoOptions,
  { stateKey, requestId, caller, signal }: ChangeContext & { stateKey: string },
): Promise<UndoReport> {
  return openOperation(database, { signal }, async (connection) => {
    await lockRestores(connection, stateKey);
    await createStage(connection);
    const selected = await selectUndoRecords(connection, stateKey, eventId);
    await stageUndoRecords(connection, stateKey, firstRevision(selected));
    const missing = await stageMissing(connection, stateKey, 'undo');
    const { head } = await readStateHead(connection, stateKey);
    const outcome = await carryOut<UndoPlan>(connection, {
      action: 'undo',
      stateKey,
      requestId,
      caller,
      dryRun,
      expectRevision,
      compared: { comparedTo: head.seq, keptTo: head.seq },
      importOrigin: { verified: true, instance_id: null, state_key: stateKey },
      keepsUndoRecord: true,
      plan: async (live) => {
        const replaceState = selected.undone.some((one) => one.replaced_state);
        return {
          ...selected,
          live,
          documents: await planKeptDocuments(connection, live, firstRevision(selected)),
          overwritten: await countOverwritten(connection, stateKey, selected.undone[0]?.revision ?? 0),
          trail: { ...unchangedTrail(live.head), import: missing },
          replaceState,
          revision: live.revision + 1,
          epoch: replaceState ? createEpoch() : live.epoch,
        };
      },
      describe: describeUndo,
    });
    return reportUndo(outcome, dryRun);
  });
}

type Selected = Pick<UndoPlan, 'undone' | 'older' | 'verified'>;

/**
 * Selects the newest record, or all from the newest to the named one, and verifies them. The lock keeps other nodes
 * from changing the records.
 */
async function selectUndoRecords(
  connection: Connection,
  stateKey: string,
  eventId: string | undefined,
): Promise<Selected> {
  const records = await readUndoRecords(connection, stateKey);
  const newest = records[0];
  if (newest === undefined) throw nothingToUndo('This state has no undo record.');
  const anchor = await readAnchor(connection, stateKey, newest);
  if (anchor !== undefined && anchor.recordedAt !== newest.taken_at) {
    throw damaged(newest, 'Its time differs from that of its audit entry.');
  }
  await assertIsLast(connection, stateKey, newest);
  const index = eventId === undefined ? 0 : records.findIndex((one) => one.event_id === eventId);
  if (index < 0) {
    throw nothingToUndo(`No undo record has the event id "${eventId}". Status lists the undo records.`, '/event_id');
  }
  const undone = records.slice(0, index + 1);
  const verified = await verifyUndoRecords(connection, stateKey, anchor, undone);
  return { undone, older: records.slice(index + 1), verified };
}

/** Throws if a restore after `newest` left no undo record. */
async function assertIsLast(queries: Queries, stateKey: string, newest: UndoRecord): Promise<void> {
  const row = await queries.firstRow<{ is_last: boolean }>(
    'select last_restore_at = $2::timestamptz as is_last from loom_state where state_key = $1',
    [stateKey, newest.taken_at],
  );
  if (row?.is_last === true) return;
  throw nothingToUndo('The last restore was made by a node of an older version, which kept no undo record.');
}

function nothingToUndo(detail: string, pointer?: string): LoomError {
  return new LoomError('nothing_to_undo', detail, pointer === undefined ? {} : { pointer });
}

/** Returns the revision of the oldest record to undo. */
function firstRevision({ undone }: Selected): number {
  return undone.at(-1)?.revision ?? 0;
}

/** Stages the documents as they were before the record of revision `first`, and all entries that were removed since. */
async function stageUndoRecords(queries: Queries, stateKey: string, first: number): Promise<void> {
  await queries.execute(
    `insert into loom_stage_document (name, value)
     select name, value
       from (select distinct on (name) name, value from loom_snapshot_document
              where state_key = $1 and revision >= $2 order by name, revision) oldest
      where value is not null`,
    [stateKey, first],
  );
  await queries.execute(
    `insert into loom_stage_audit (position, seq, hash, entry)
     select row_number() over (order by revision, seq), seq, hash, entry
       from loom_snapshot_audit where state_key = $1 and revision >= $2 order by revision, seq`,
    [stateKey, first],
  );
  await analyzeStage(queries);
}

/** Plans changes as `planDocuments` does, but only of the documents in the undo records. */
async function planKeptDocuments(queries: Queries, live: StateHead, first: number): Promise<DocumentsPlan> {
  await queries.execute('truncate loom_stage_change');
  await queries.execute(
    `insert into loom_stage_change (name, kind)
     select name, case when l.name is null then 'added' when s.name is null then 'removed' else 'changed' end
       from (select distinct name from loom_snapshot_document where state_key = $1 and revision >= $2) kept
       left join loom_stage_document s using (name)
       left join (select name, sha256 from loom_document where state_key = $1) l using (name)
      where l.sha256 is distinct from s.sha256`,
    [live.stateKey, first],
  );
  const { counts, names } = await readStagedChanges(queries, 0);
  return { counts: { ...counts, unchanged: live.documents - counts.changed - counts.removed }, names };
}

/** Counts the staged changes of documents that a commit has changed after revision `last`. */
async function countOverwritten(queries: Queries, stateKey: string, last: number): Promise<number> {
  const row = await queries.firstRow<{ overwritten: number }>(
    `select count(*) as overwritten
       from loom_stage_change c join loom_document d on d.state_key = $1 and d.name = c.name
      where d.revision > $2`,
    [stateKey, last],
  );
  return row?.overwritten ?? 0;
}
