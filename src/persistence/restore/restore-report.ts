import type { CheckedBackup } from '../../backup/check/frame.ts';
import type { CheckedRequest } from '../../backup/check/request.ts';
import type { RestoreReport } from '../../domain/backup.ts';
import type { StagedBackup } from './check.ts';
import type { OperationOutcome, OperationPlan } from './operation.ts';
import { describeOperation, reportOperation } from './report.ts';

export interface RestorePlan extends OperationPlan {
  /** Position of the first entry of an unverified backup that is not linked to the entry before it. */
  unlinked: number | undefined;
}

/** Reports a restore, or the plan of a dry run. `scratchSha256` is the digest of the scratch state that the restore made. */
export function reportRestore(
  outcome: OperationOutcome<RestorePlan>,
  request: CheckedRequest,
  scratchSha256: string | null = null,
): RestoreReport {
  const { options, backup } = request;
  const { live, trail } = outcome.plan;
  const head = outcome.entry?.head ?? null;
  const { intoScratch: scratch } = options;
  return {
    dry_run: options.dryRun,
    restored_at: outcome.entry?.recordedAt ?? null,
    truncated_audit: options.truncateAudit,
    replaced_audit_count: trail.replace,
    verified: backup.verified,
    ...reportOperation(outcome, options.dryRun),
    audit: {
      adopted: trail.adopt,
      imported: trail.import,
      replaced: trail.replace,
      parted_at: trail.partedAt,
      previous_head: live.head,
      backup_head: backup.verified ? backup.manifest.audit_head : null,
      head,
    },
    scratch: scratch === undefined ? null : { state_key: scratch, state_sha256: scratchSha256, audit_head: head },
    warnings: warningsOf(outcome.plan, request),
  };
}

function warningsOf(
  { live, trail, unlinked, replaceState }: RestorePlan,
  { options, backup }: CheckedRequest,
): string[] {
  const warnings = backup.verified ? warningsOfVerified(backup) : warningsOfUnverified(backup, unlinked);
  if (options.replaceState && !replaceState) {
    warnings.push('The backup contains no state: the documents stay as they are.');
  }
  if (trail.replace > 0) {
    warnings.push(
      `Live audit entries after the backup that are removed from the trail: ${trail.replace}. An undo brings them back.`,
    );
  }
  if (trail.partedAt !== null && live.head.seq === 0) {
    warnings.push(
      'The backup does not contain its trail from the first entry on. Its entries are imported; the earlier ones are missing here.',
    );
  } else if (trail.partedAt !== null) {
    warnings.push(
      `The audit trails of the backup and of the live state differ from entry ${trail.partedAt} on. Missing entries are imported; none is removed.`,
    );
  } else if (options.truncateAudit && !backup.verified) {
    warnings.push('truncate_audit has no effect: unverified entries cannot be compared with the live trail.');
  }
  return warnings;
}

function warningsOfVerified({ manifest }: Extract<CheckedBackup, { verified: true }>): string[] {
  if (!manifest.audit_included) return ['The backup contains no audit trail.'];
  const isPartial = manifest.audit_entries < manifest.audit_head.seq;
  return isPartial ? ['The backup contains only the last entries of its audit trail.'] : [];
}

function warningsOfUnverified({ origin, hasAudit }: CheckedBackup, unlinked: number | undefined): string[] {
  const warnings = ['The backup has no manifest: LOOM cannot verify that it is complete and unchanged.'];
  if (!hasAudit) warnings.push('The backup contains no audit trail.');
  if (origin.stateKey === null) warnings.push('The backup does not say which state key it was made for.');
  if (unlinked !== undefined) {
    warnings.push(`Audit entry ${unlinked} of the backup is not linked to the one before it.`);
  }
  return warnings;
}

/** Describes a restore in its audit entry. */
export function describeRestore(
  plan: RestorePlan,
  { options, backup }: CheckedRequest,
  staged: StagedBackup,
  replacedRestores: unknown[],
): Record<string, unknown> {
  const { trail } = plan;
  const { origin } = backup;
  return {
    ...describeOperation(plan),
    truncated_audit: options.truncateAudit,
    adopted_entries: trail.adopt,
    replaced_entries: trail.replace,
    parted_at: trail.partedAt,
    replaced_restores: replacedRestores,
    verified: backup.verified,
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
