import type { Pool, PoolClient } from 'pg';
import type { OperationContext } from '../../domain/store.ts';
import type { UndoRecord, UndoReport, UndoRequest } from '../../domain/undo.ts';
import { LoomError } from '../../errors.ts';
import { cutConnection } from '../connection/copy.ts';
import { inTransaction } from '../connection/transaction.ts';
import { createEpoch, createEventId } from '../state/ids.ts';
import { assertRevision, assertSchemaServes, type LiveState, planAtOneRevision } from '../state/live.ts';
import { applyDocuments, type DocumentsPlan, readStagedChanges } from './documents.ts';
import { importEntries } from './entries.ts';
import { appendOperationEntry } from './entry.ts';
import { lockRestores } from './lock.ts';
import { analyzeStage, createStage } from './stage.ts';
import { stageMissing } from './trail.ts';
import { keepDocuments, readUndoRecords, sealUndoRecord } from './undo-record.ts';

interface UndoPlan {
  live: LiveState;
  /** Newest first, as those that are kept from before them. */
  undone: UndoRecord[];
  older: UndoRecord[];
  documents: DocumentsPlan;
  /** Documents to be changed that a commit has changed since. */
  overwritten: number;
  imports: number;
  replaceState: boolean;
  revision: number;
  epoch: string;
}

/**
 * Undoes the last restore or undo, or all from a named one on, as one more commit: each document that they changed becomes what it
 * was before the first of them, and entries that they took out of the trail come back as `audit.import`. Documents that none of them
 * touched stay as they are now. What this replaces is kept in its turn, so that an undo can be undone.
 */
export async function undo(
  pool: Pool,
  stateKey: string,
  request: UndoRequest,
  { requestId, signal }: OperationContext,
): Promise<UndoReport> {
  return inTransaction(pool, 'write', async (client) => {
    const cut = () => cutConnection(client);
    signal.addEventListener('abort', cut, { once: true });
    try {
      if (signal.aborted) throw new LoomError('client_gone', 'The client went away before the undo was done.');
      await assertSchemaServes(client);
      await lockRestores(client, stateKey);
      await createStage(client);
      const { undone, older } = await selectUndoRecords(client, stateKey, request.eventId);
      const first = undone.at(-1)?.revision ?? 0;
      await stageKept(client, stateKey, first);
      const imports = await stageMissing(client, stateKey);
      const plan = await planAtOneRevision(client, { stateKey, dryRun: request.dryRun }, async (live) => {
        await assertSchemaServes(client);
        assertRevision(live, request.expectRevision);
        const replaceState = undone.some((one) => one.replaced_state);
        return {
          live,
          undone,
          older,
          ...(await planDocuments(client, stateKey, {
            first,
            last: undone[0]?.revision ?? 0,
            documents: live.documents,
          })),
          imports,
          replaceState,
          revision: live.revision + 1,
          epoch: replaceState ? createEpoch() : live.epoch,
        };
      });
      const report = reportOf(plan, request.dryRun);
      return request.dryRun ? report : await apply(client, stateKey, plan, report, requestId);
    } finally {
      signal.removeEventListener('abort', cut);
    }
  });
}

/** The newest snapshot, or all down to the named one. There is no other restore meanwhile, so they stay what they are. */
async function selectUndoRecords(
  client: PoolClient,
  stateKey: string,
  eventId: string | undefined,
): Promise<{ undone: UndoRecord[]; older: UndoRecord[] }> {
  const kept = await readUndoRecords(client, stateKey);
  const newest = kept[0];
  if (newest === undefined) throw nothingToUndo('No restore of this state has been made that could be undone.');
  const { rows } = await client.query<{ is_last: boolean }>(
    'select last_restore_at = $2::timestamptz as is_last from loom_state where state_key = $1',
    [stateKey, newest.taken_at],
  );
  if (rows[0]?.is_last !== true) {
    throw nothingToUndo(
      'The last restore was made by a node of an older version, which kept nothing of what it replaced.',
    );
  }
  const place = eventId === undefined ? 0 : kept.findIndex((one) => one.event_id === eventId);
  if (place < 0) {
    throw nothingToUndo(`Nothing is kept of a restore or undo ${eventId}; status lists what is.`, '/event_id');
  }
  return { undone: kept.slice(0, place + 1), older: kept.slice(place + 1) };
}

function nothingToUndo(detail: string, pointer?: string): LoomError {
  return new LoomError('nothing_to_undo', detail, pointer === undefined ? {} : { pointer });
}

/** Stages what the documents were before the first of the snapshots, and all the entries that were taken out. */
async function stageKept(client: PoolClient, stateKey: string, first: number): Promise<void> {
  await client.query(
    `insert into loom_stage_document (name, value)
     select name, value
       from (select distinct on (name) name, value from loom_snapshot_document
              where state_key = $1 and revision >= $2 order by name, revision) oldest
      where value is not null`,
    [stateKey, first],
  );
  await client.query(
    `insert into loom_stage_audit (line)
     select entry || jsonb_build_object('hash', encode(hash, 'hex'))
       from loom_snapshot_audit where state_key = $1 and revision >= $2 order by revision, seq`,
    [stateKey, first],
  );
  await analyzeStage(client);
}

/** Only names that the snapshots have can change; `last` is the revision after which a change was a commit's. */
async function planDocuments(
  client: PoolClient,
  stateKey: string,
  { first, last, documents }: { first: number; last: number; documents: number },
): Promise<Pick<UndoPlan, 'documents' | 'overwritten'>> {
  await client.query('truncate loom_stage_change');
  await client.query(
    `insert into loom_stage_change (name, kind)
     select name, case when l.name is null then 'added' when s.name is null then 'removed' else 'changed' end
       from (select distinct name from loom_snapshot_document where state_key = $1 and revision >= $2) kept
       left join loom_stage_document s using (name)
       left join (select name, sha256 from loom_document where state_key = $1) l using (name)
      where l.sha256 is distinct from s.sha256`,
    [stateKey, first],
  );
  const { rows } = await client.query<{ overwritten: number }>(
    `select count(*) as overwritten
       from loom_stage_change c join loom_document d on d.state_key = $1 and d.name = c.name
      where d.revision > $2`,
    [stateKey, last],
  );
  const { counts, names } = await readStagedChanges(client, 0);
  const unchanged = documents - counts.changed - counts.removed;
  return { documents: { counts: { ...counts, unchanged }, names }, overwritten: rows[0]?.overwritten ?? 0 };
}

function reportOf(plan: UndoPlan, dryRun: boolean): UndoReport {
  const { live, documents, imports, overwritten } = plan;
  const warnings: string[] = [];
  if (overwritten > 0) {
    warnings.push(
      `Documents that were changed since, and become what they were before the restore all the same: ${overwritten}.`,
    );
  }
  const { added, changed, removed } = documents.counts;
  if (added + changed + removed + imports === 0) warnings.push(nothingChanges(plan));
  if (imports > 0) warnings.push(`Audit entries that the restore took out come back as imports: ${imports}.`);
  return {
    dry_run: dryRun,
    undone_at: null,
    undone: plan.undone.map(({ event_id, kind, taken_at, revision }) => ({ event_id, kind, taken_at, revision })),
    replaced_state: plan.replaceState,
    imported_audit_count: imports,
    revision: plan.revision,
    epoch: dryRun && plan.replaceState ? null : plan.epoch,
    based_on_revision: live.revision,
    event_id: null,
    documents: documents.counts,
    document_names: documents.names,
    audit: { imported: imports, previous_head: live.head, head: null },
    warnings,
  };
}

/** A restore that was sent twice: the second replaced nothing, and what is to be undone is the first. */
function nothingChanges({ older }: UndoPlan): string {
  const other = older.find((one) => one.substantial);
  const nothing = 'It changes no document and brings back no entry: nothing of that kind was replaced.';
  if (other === undefined) return nothing;
  return (
    `${nothing} An older ${other.kind} that has replaced something is kept: name its event id, ${other.event_id}, to undo ` +
    'that one and all after it.'
  );
}

async function apply(
  client: PoolClient,
  stateKey: string,
  plan: UndoPlan,
  report: UndoReport,
  requestId: string,
): Promise<UndoReport> {
  const { live, revision, epoch, documents } = plan;
  await keepDocuments(client, stateKey, revision);
  await applyDocuments(client, stateKey, revision);
  const origin = { verified: true, instance_id: null, state_key: stateKey };
  const linkTo = await importEntries(client, { stateKey, after: live.head, revision, epoch, requestId, origin });
  const eventId = createEventId();
  const { head, recordedAt } = await appendOperationEntry(client, {
    action: 'undo',
    stateKey,
    linkTo,
    eventId,
    revision,
    epoch,
    requestId,
    detail: {
      undone: report.undone,
      replaced_state: plan.replaceState,
      previous_revision: live.revision,
      previous_epoch: live.epoch,
      previous_head: live.head,
      imported_entries: plan.imports,
      documents: documents.counts,
      document_names: documents.names,
    },
  });
  await sealUndoRecord(client, stateKey, {
    event_id: eventId,
    kind: 'undo',
    taken_at: recordedAt,
    revision,
    previous_revision: live.revision,
    replaced_state: plan.replaceState,
  });
  return { ...report, undone_at: recordedAt, event_id: eventId, audit: { ...report.audit, head } };
}
