import type { VerifiedBackup } from '../../backup/offline/verifier.ts';
import type { AuditHead } from '../../domain/audit.ts';

/** A verified backup as `--json` and `report.json` describe it. */
export interface BackupMembers {
  /** Null when a drill took the backup from the node. */
  file: string | null;
  state_key: string;
  revision: number;
  epoch: string;
  exported_at: string;
  /** Size of the unpacked JSON. */
  bytes: number;
  documents: number;
  audit_entries: number;
  state_sha256: string;
  audit_head: AuditHead;
  manifest_sha256: string;
}

/** Describes a verified backup. */
export function toBackupMembers(verified: VerifiedBackup, file: string | null): BackupMembers {
  const { header, manifest } = verified;
  return {
    file,
    state_key: header.state_key,
    revision: header.revision,
    epoch: header.epoch,
    exported_at: header.exported_at,
    bytes: verified.bytes,
    documents: verified.documents,
    audit_entries: verified.auditEntries,
    state_sha256: manifest.state_sha256,
    audit_head: manifest.audit_head,
    manifest_sha256: manifest.sha256,
  };
}
