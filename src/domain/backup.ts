import type { AuditHead } from './audit.ts';

export const BACKUP_VERSION = 1;

/** What stands before `state` in a backup. Times are RFC 3339 in UTC with microseconds. */
export interface BackupHeader {
  loom_backup_version: number;
  backend: string;
  instance_id: string;
  state_key: string;
  schema_version: number;
  epoch: string;
  revision: number;
  exported_at: string;
  state_updated_at: string;
}

/**
 * The last member of a backup. Digests are lower-case hex of SHA-256 and cover values, not bytes:
 * - `state_sha256`: over sha256(name) ‖ sha256(canonical text of the value), documents in byte order of their names;
 * - `sha256`: over the canonical text of `{"header": …, "manifest": …}`, all members of both but the manifest's own `sha256`.
 */
export interface BackupManifest {
  documents: number;
  state_sha256: string;
  audit_included: boolean;
  audit_entries: number;
  audit_first: { seq: number; previous_hash: string } | null;
  audit_head: AuditHead;
  audit_verified: boolean;
  sha256: string;
}

export interface BackupOptions {
  includeAudit: boolean;
  /** The last N entries only; all when undefined. */
  auditLimit?: number | undefined;
}

export interface DocumentCounts {
  added: number;
  changed: number;
  removed: number;
  unchanged: number;
}

export interface DocumentNames {
  added: string[];
  changed: string[];
  removed: string[];
  /** True when one of the lists was cut at the limit. */
  truncated: boolean;
}

/** Reports what a restore or undo did, or with `dry_run` would do. */
export interface OperationReport {
  dry_run: boolean;
  replaced_state: boolean;
  /** Number of entries that came into the trail, adopted or imported. */
  imported_audit_count: number;
  revision: number;
  /** Null in a dry run that would replace the state: only the operation itself creates a new epoch. */
  epoch: string | null;
  /** The live revision that the figures were computed against: pass it as `expect_revision`. */
  based_on_revision: number;
  event_id: string | null;
  documents: DocumentCounts;
  document_names: DocumentNames;
  audit: {
    /** Appended as `audit.import` entries that contain the original. */
    imported: number;
    previous_head: AuditHead;
    head: AuditHead | null;
  };
  warnings: string[];
}

export interface RestoreReport extends OperationReport {
  restored_at: string | null;
  /** As requested; `replaced_audit_count` tells how many entries were removed. */
  truncated_audit: boolean;
  replaced_audit_count: number;
  /** Whether the backup had a manifest to verify it by. A backup that does not match its manifest is never restored. */
  verified: boolean;
  audit: OperationReport['audit'] & {
    /** Taken over as they are, seq and hash. */
    adopted: number;
    /** Live entries that were removed. */
    replaced: number;
    /** The first seq at which the two trails differ; null when one contains the other. */
    parted_at: number | null;
    /** Null when the backup is unverified. */
    backup_head: AuditHead | null;
  };
  /** The scratch state that the restore made, as read from there; a dry run only names it. Null otherwise. */
  scratch: { state_key: string; state_sha256: string | null; audit_head: AuditHead | null } | null;
}
