import type { OperationReport } from '../../domain/backup.ts';
import type { OperationOutcome, OperationPlan } from './operation.ts';

/** Returns the members that the reports of all operations share. */
export function reportOperation({ plan, entry }: OperationOutcome<OperationPlan>, dryRun: boolean) {
  const { live, trail, documents } = plan;
  return {
    replaced_state: plan.replaceState,
    imported_audit_count: trail.adopt + trail.import,
    revision: plan.revision,
    epoch: dryRun && plan.replaceState ? null : plan.epoch,
    based_on_revision: live.revision,
    event_id: entry?.eventId ?? null,
    documents: documents.counts,
    document_names: documents.names,
  } satisfies Partial<OperationReport>;
}

/** Returns the members that the audit entries of all operations share. */
export function describeOperation({ live, trail, documents, replaceState }: OperationPlan): Record<string, unknown> {
  return {
    replaced_state: replaceState,
    previous_revision: live.revision,
    previous_epoch: live.epoch,
    previous_head: live.head,
    imported_entries: trail.import,
    documents: documents.counts,
    document_names: documents.names,
  };
}
