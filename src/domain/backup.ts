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
  auditLimit?: number;
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

/** What a restore did, or with `dry_run` would do. */
export interface RestoreReport {
  dry_run: boolean;
  restored_at: string | null;
  replaced_state: boolean;
  /** As it was asked for; `replaced_audit_count` says how many entries were taken out. */
  truncated_audit: boolean;
  /** Entries of the backup that came into the trail, adopted or imported. */
  imported_audit_count: number;
  replaced_audit_count: number;
  /** Whether the backup had a manifest to be verified by. What does not hold is never restored. */
  verified: boolean;
  revision: number;
  /** Null in a dry run that would replace the state: a new one is made by the deed only. */
  epoch: string | null;
  /** The live revision that the figures were computed against: pass it as `expect_revision`. */
  based_on_revision: number;
  event_id: string | null;
  documents: DocumentCounts;
  document_names: DocumentNames;
  audit: {
    /** Taken over as they are, seq and hash. */
    adopted: number;
    /** Appended as `audit.import` entries that contain the original. */
    imported: number;
    /** Live entries taken out. */
    replaced: number;
    /** The first seq at which the two trails differ; null when one of them holds the other. */
    parted_at: number | null;
    previous_head: AuditHead;
    /** Null when the backup is unverified. */
    backup_head: AuditHead | null;
    head: AuditHead | null;
  };
  /** What a restore into a scratch state has made, as read from there; a dry run only names it. Null otherwise. */
  scratch: { state_key: string; state_sha256: string | null; audit_head: AuditHead | null } | null;
  warnings: string[];
}
