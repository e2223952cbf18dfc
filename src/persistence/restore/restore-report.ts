import type { BackupOrigin } from '../../backup/check/frame.ts';
import type { CheckedRequest } from '../../backup/check/request.ts';
import { BACKUP_VERSION, type RestoreReport } from '../../domain/backup.ts';
import type { StateHead } from '../../domain/state.ts';
import type { StagedBackup } from './check.ts';
import type { OperationOutcome, OperationPlan } from './operation.ts';
import { describeOperation, reportOperation } from './report.ts';

export interface RestorePlan extends OperationPlan {
  /** Position of the first entry of an unverified backup that is not linked to the entry before it. */
  unlinked: number | undefined;
}

export interface RestoreTarget {
  /** Id of the node's database. */
  instanceId: string | null;
  /** Head of the node's own state before the restore, even if the restore creates a scratch state. */
  live: Pick<StateHead, 'stateKey' | 'revision'>;
  /** Digest of the new scratch state. */
  scratchSha256: string | null;
}

/** Reports a restore, or the plan of a dry run. */
export function reportRestore(
  outcome: OperationOutcome<RestorePlan>,
  request: CheckedRequest,
  target: RestoreTarget,
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
    ...reportOrigin(backup.origin, target),
    stored_backup: options.from ?? null,
    selected_documents: options.documents ?? null,
    scratch:
      scratch === undefined ? null : { state_key: scratch, state_sha256: target.scratchSha256, audit_head: head },
    warnings: warningsOf(outcome.plan, request),
  };
}

/** Names the databases and states of the backup and of the node, so that an operator notices a foreign backup. */
function reportOrigin(origin: BackupOrigin, { instanceId, live }: RestoreTarget) {
  const isKnown = origin.instanceId !== null && instanceId !== null;
  return {
    backup: {
      instance_id: origin.instanceId,
      state_key: origin.stateKey,
      version: BACKUP_VERSION,
      schema_version: origin.schemaVersion,
      taken_at: origin.exportedAt,
      revision: origin.revision,
    },
    live: { instance_id: instanceId, state_key: live.stateKey, revision: live.revision },
    instance_differs: isKnown ? origin.instanceId !== instanceId : null,
  } satisfies Partial<RestoreReport>;
}

function warningsOf(
  { live, trail, documents, unlinked, replaceState }: RestorePlan,
  { options, backup }: CheckedRequest,
): string[] {
  const { partedAt, replace } = trail;
  const isWhole = options.documents === undefined;
  const removed = isWhole ? 0 : documents.counts.removed;
  const isPartial =
    backup.verified && backup.hasAudit && backup.manifest.audit_entries < backup.manifest.audit_head.seq;
  const warnings = [
    !backup.verified && 'The backup has no manifest: LOOM cannot verify that it is complete and unchanged.',
    removed > 0 && `The restore removes selected documents that the backup does not contain: ${removed}.`,
    isWhole && !backup.hasAudit && 'The backup contains no audit trail.',
    isWhole && isPartial && 'The backup contains only the last entries of its audit trail.',
    backup.origin.stateKey === null && 'The backup does not contain the state key that it was made for.',
    unlinked !== undefined && `Audit entry ${unlinked} of the backup is not linked to the one before it.`,
    options.replaceState && !replaceState && 'The backup contains no state: the documents stay as they are.',
    replace > 0 &&
      `The restore removes live audit entries that are later than the backup: ${replace}. An undo brings them back.`,
    partedAt !== null &&
      live.head.seq === 0 &&
      'The backup does not contain the first entries of its trail, so they are missing here. Its other entries are imported.',
    partedAt !== null &&
      live.head.seq > 0 &&
      `The audit trails of the backup and of the live state differ from entry ${partedAt} on. Missing entries are imported; none is removed.`,
    options.truncateAudit &&
      !backup.verified &&
      'truncate_audit has no effect: unverified entries cannot be compared with the live trail.',
  ];
  return warnings.filter((warning) => warning !== false);
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
    stored_backup: options.from,
    selected_documents: options.documents,
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
      revision: origin.revision ?? 0,
      exported_at: origin.exportedAt,
      state_sha256: backup.hasState ? staged.stateSha256 : null,
      audit_entries: staged.entries,
      sha256: backup.verified ? backup.manifest.sha256 : null,
      head: backup.verified ? backup.manifest.audit_head : null,
    },
  };
}
