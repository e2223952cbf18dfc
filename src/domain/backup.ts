import type { AuditHead } from './audit.ts';

export const BACKUP_VERSION = 1;

/** Describes the members before `state` in a backup. Times are RFC 3339 in UTC with microseconds. */
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
 * Describes the last member of a backup. Digests are SHA-256 in lower-case hex. They cover values, so they do not
 * depend on whitespace or escapes:
 * - `state_sha256`: of sha256(name) ‖ sha256(canonical text of the value), documents in byte order of their names;
 * - `sha256`: of the canonical text of `{"header": …, "manifest": …}` with all members except this one.
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
  /** Number of newest entries to include; all when undefined. */
  auditLimit?: number | undefined;
  /** Name of the scratch state to export instead of the live state. */
  scratch?: string | undefined;
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
  /** Whether a list was cut off at `limits.maxPlanNames`. */
  truncated: boolean;
}

/** Reports what a restore or undo did or, with `dry_run`, would do. */
export interface OperationReport {
  dry_run: boolean;
  replaced_state: boolean;
  /** Number of adopted and imported entries. */
  imported_audit_count: number;
  revision: number;
  /** Null in a dry run that would replace the state, because only the operation itself creates a new epoch. */
  epoch: string | null;
  /** The live revision that the figures refer to. Pass it as `expect_revision` to get exactly this result. */
  based_on_revision: number;
  event_id: string | null;
  documents: DocumentCounts;
  document_names: DocumentNames;
  audit: {
    /** Number of entries imported, each inside a new `audit.import` entry. */
    imported: number;
    previous_head: AuditHead;
    head: AuditHead | null;
  };
  warnings: string[];
}

export interface RestoreReport extends OperationReport {
  restored_at: string | null;
  /** Whether truncation was requested. `replaced_audit_count` is the number of removed entries. */
  truncated_audit: boolean;
  replaced_audit_count: number;
  /** Whether the backup had a manifest. A restore always refuses a backup that does not match its manifest. */
  verified: boolean;
  audit: OperationReport['audit'] & {
    /** Number of entries adopted unchanged, with seq and hash. */
    adopted: number;
    /** Number of entries removed from the live trail. */
    replaced: number;
    /** The first seq at which the two trails differ; null when one contains the other. */
    parted_at: number | null;
    /** Null when the backup is unverified. */
    backup_head: AuditHead | null;
  };
  /** The origin of the backup, according to its header. A member that the header lacks is null. */
  backup: {
    instance_id: string | null;
    state_key: string | null;
    /** Value of `loom_backup_version`. */
    version: number;
    schema_version: number | null;
    /** Time at which the export began. */
    taken_at: string | null;
    revision: number | null;
  };
  /** The database and state of the node. The revision is the one before the restore. */
  live: { instance_id: string | null; state_key: string; revision: number };
  /** Whether the backup was made in another database; null when the backup does not say. */
  instance_differs: boolean | null;
  /** The new scratch state, as read from the database; a dry run only names it. Otherwise null. */
  scratch: { state_key: string; state_sha256: string | null; audit_head: AuditHead | null } | null;
}
