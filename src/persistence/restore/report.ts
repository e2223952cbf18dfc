import type { CheckedBackup } from '../../backup/check/frame.ts';
import type { CheckedRequest } from '../../backup/check/request.ts';
import type { RestoreReport } from '../../domain/backup.ts';
import type { LiveState } from '../state/live.ts';
import type { StagedBackup } from './check.ts';
import type { DocumentsPlan } from './documents.ts';
import type { TrailPlan } from './trail.ts';

/** What a restore comes to at one revision of the live state. */
export interface RestorePlan {
  live: LiveState;
  documents: DocumentsPlan;
  trail: TrailPlan;
  replaceState: boolean;
  revision: number;
  epoch: string;
  /** Position of the first entry that is not linked to the one before, in a backup that nobody can verify. */
  unlinked: number | undefined;
}

/** What the plan comes to; a dry run answers it as it is. */
export function reportOf(plan: RestorePlan, request: CheckedRequest): RestoreReport {
  const { options, backup } = request;
  const { trail, documents } = plan;
  return {
    dry_run: options.dryRun,
    restored_at: null,
    replaced_state: plan.replaceState,
    truncated_audit: options.truncateAudit,
    imported_audit_count: trail.adopt + trail.import,
    replaced_audit_count: trail.replace,
    verified: backup.verified,
    revision: plan.revision,
    epoch: options.dryRun && plan.replaceState ? null : plan.epoch,
    based_on_revision: plan.live.revision,
    event_id: null,
    documents: documents.counts,
    document_names: documents.names,
    audit: {
      adopted: trail.adopt,
      imported: trail.import,
      replaced: trail.replace,
      parted_at: trail.partedAt,
      previous_head: plan.live.head,
      backup_head: backup.verified ? backup.manifest.audit_head : null,
      head: null,
    },
    scratch:
      options.intoScratch === undefined
        ? null
        : { state_key: options.intoScratch, state_sha256: null, audit_head: null },
    warnings: warningsOf(plan, request),
  };
}

function warningsOf(
  { live, trail, unlinked, replaceState }: RestorePlan,
  { options, backup }: CheckedRequest,
): string[] {
  const warnings = backup.verified ? warningsOfVerified(backup) : warningsOfUnverified(backup, unlinked);
  if (options.replaceState && !replaceState) {
    warnings.push('The backup holds no state: the documents are left as they are.');
  }
  if (trail.replace > 0) {
    warnings.push(
      `Live audit entries made after the backup are taken out of the trail: ${trail.replace}. An undo brings them back.`,
    );
  }
  if (trail.partedAt !== null && live.head.seq === 0) {
    warnings.push(
      'The backup does not hold its trail from the first entry on: what it holds is imported, and what came before is lost here.',
    );
  } else if (trail.partedAt !== null) {
    warnings.push(
      `The backup's audit trail and the live one part at entry ${trail.partedAt}: what is missing is imported, and nothing is taken out.`,
    );
  } else if (options.truncateAudit && !backup.verified) {
    warnings.push('truncate_audit has no effect: the entries cannot be compared with the live trail.');
  }
  return warnings;
}

function warningsOfVerified({ manifest }: Extract<CheckedBackup, { verified: true }>): string[] {
  if (!manifest.audit_included) return ['The backup holds no audit trail.'];
  const warnings: string[] = [];
  if (manifest.audit_entries < manifest.audit_head.seq) {
    warnings.push('The backup holds the last entries of its audit trail only.');
  }
  return warnings;
}

function warningsOfUnverified({ origin, hasAudit }: CheckedBackup, unlinked: number | undefined): string[] {
  const warnings = ['The backup has no manifest: nobody can tell whether it is whole and as it was made.'];
  if (!hasAudit) warnings.push('The backup holds no audit trail.');
  if (origin.stateKey === null) warnings.push('The backup does not say which state key it was made for.');
  if (unlinked !== undefined) {
    warnings.push(`Audit entry ${unlinked} of the backup is not linked to the one before it.`);
  }
  return warnings;
}

/** What the audit entry of a restore says of it. */
export function restoreDetail(
  plan: RestorePlan,
  { options, backup }: CheckedRequest,
  staged: StagedBackup,
): Record<string, unknown> {
  const { live, trail, documents } = plan;
  const { origin } = backup;
  return {
    replaced_state: plan.replaceState,
    truncated_audit: options.truncateAudit,
    previous_revision: live.revision,
    previous_epoch: live.epoch,
    previous_head: live.head,
    adopted_entries: trail.adopt,
    imported_entries: trail.import,
    replaced_entries: trail.replace,
    parted_at: trail.partedAt,
    verified: backup.verified,
    documents: documents.counts,
    document_names: documents.names,
    backup: {
      instance_id: origin.instanceId,
      state_key: origin.stateKey,
      epoch: origin.epoch,
      revision: origin.revision,
      exported_at: origin.exportedAt,
      state_sha256: backup.hasState ? staged.stateSha256 : null,
      audit_entries: staged.entries,
      sha256: backup.verified ? backup.manifest.sha256 : null,
      head: backup.verified ? backup.manifest.audit_head : null,
    },
  };
}
