import type { UndoRecord, UndoReport } from '../../domain/undo.ts';
import type { OperationOutcome, OperationPlan } from './operation.ts';

export interface UndoPlan extends OperationPlan {
  /** The records to undo, newest first. */
  undone: UndoRecord[];
  /** The records before them, newest first. */
  older: UndoRecord[];
  /** Number of documents to change that a later commit has changed as well. */
  overwritten: number;
}

/** Reports an undo, or the plan of a dry run. */
export function reportUndo({ plan, entry }: OperationOutcome<UndoPlan>, dryRun: boolean): UndoReport {
  const { live, documents, trail } = plan;
  return {
    dry_run: dryRun,
    undone_at: entry?.recordedAt ?? null,
    undone: undoneRecords(plan),
    replaced_state: plan.replaceState,
    imported_audit_count: trail.import,
    revision: plan.revision,
    epoch: dryRun && plan.replaceState ? null : plan.epoch,
    based_on_revision: live.revision,
    event_id: entry?.eventId ?? null,
    documents: documents.counts,
    document_names: documents.names,
    audit: { imported: trail.import, previous_head: live.head, head: entry?.head ?? null },
    warnings: warningsOf(plan),
  };
}

/** Describes an undo in its audit entry. */
export function describeUndo(plan: UndoPlan): Record<string, unknown> {
  const { live, documents, trail } = plan;
  return {
    undone: undoneRecords(plan),
    replaced_state: plan.replaceState,
    previous_revision: live.revision,
    previous_epoch: live.epoch,
    previous_head: live.head,
    imported_entries: trail.import,
    documents: documents.counts,
    document_names: documents.names,
  };
}

function undoneRecords({ undone }: UndoPlan): UndoReport['undone'] {
  return undone.map(({ event_id, kind, taken_at, revision }) => ({ event_id, kind, taken_at, revision }));
}

function warningsOf(plan: UndoPlan): string[] {
  const { documents, trail, overwritten } = plan;
  const { added, changed, removed } = documents.counts;
  const warnings: string[] = [];
  if (overwritten > 0) {
    warnings.push(
      `Documents that a later commit has changed, and that the undo overwrites all the same: ${overwritten}.`,
    );
  }
  if (added + changed + removed + trail.import === 0) warnings.push(nothingChanges(plan));
  if (trail.import > 0)
    warnings.push(`Audit entries that the restore removed and that come back as imports: ${trail.import}.`);
  return warnings;
}

/** A restore that was sent twice replaced nothing the second time. The first one is what the operator wants to undo. */
function nothingChanges({ older }: UndoPlan): string {
  const other = older.find((one) => one.substantial);
  const nothing = 'The undo changes no document and brings back no entry.';
  if (other === undefined) return nothing;
  return (
    `${nothing} An older ${other.kind} did replace something. To undo it and everything after it, send its event id ` +
    `${other.event_id}.`
  );
}
