import type { UndoRecord, UndoReport } from '../../../domain/undo.ts';
import type { OperationOutcome, OperationPlan } from '../operation.ts';
import { describeOperation, reportOperation } from '../report.ts';

export interface UndoPlan extends OperationPlan {
  /** The records to undo, newest first. */
  undone: UndoRecord[];
  /** The records older than these, newest first. */
  older: UndoRecord[];
  /** Whether all records match the digests in the trail; null if an older version wrote one without a digest. */
  verified: true | null;
  /** Number of documents to change that a later commit has changed as well. */
  overwritten: number;
}

/** Reports an undo, or the plan of a dry run. */
export function reportUndo(outcome: OperationOutcome<UndoPlan>, dryRun: boolean): UndoReport {
  const { plan, entry } = outcome;
  return {
    dry_run: dryRun,
    undone_at: entry?.recordedAt ?? null,
    undone: undoneRecords(plan),
    undo_record_verified: plan.verified,
    ...reportOperation(outcome, dryRun),
    audit: { imported: plan.trail.import, previous_head: plan.live.head, head: entry?.head ?? null },
    warnings: warningsOf(plan),
  };
}

/** Describes an undo in its audit entry. */
export function describeUndo(plan: UndoPlan): Record<string, unknown> {
  return { ...describeOperation(plan), undone: undoneRecords(plan), undo_record_verified: plan.verified };
}

function undoneRecords({ undone }: UndoPlan): UndoReport['undone'] {
  return undone.map(({ event_id, kind, taken_at, revision }) => ({ event_id, kind, taken_at, revision }));
}

function warningsOf(plan: UndoPlan): string[] {
  const { documents, trail, overwritten, verified } = plan;
  const { added, changed, removed } = documents.counts;
  const warnings = [
    verified === null &&
      'A node of an older version made the undo record, and the trail has no digest of it: LOOM cannot verify that it is unchanged.',
    overwritten > 0 && `The undo overwrites documents that a later commit has changed: ${overwritten}.`,
    added + changed + removed + trail.import === 0 && nothingChanges(plan),
    trail.import > 0 && `The undo brings back removed audit entries as imports: ${trail.import}.`,
  ];
  return warnings.filter((warning) => warning !== false);
}

/** Warns that the undo changes nothing. Names an older operation to undo: a repeated restore replaces nothing. */
function nothingChanges({ older }: UndoPlan): string {
  const nothing = 'The undo changes no document and brings back no entry.';
  const other = older.find((one) => one.substantial);
  if (other === undefined) return nothing;
  const advice = `To undo it and everything after it, name its event id ${other.event_id}.`;
  return `${nothing} An earlier ${other.kind} replaced something. ${advice}`;
}
