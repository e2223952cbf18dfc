import type { VerifiedBackup } from '../../backup/offline/verifier.ts';

/** Describes a verified backup as `--json` and `report.json` do. `file` is null if a drill took the backup. */
export function toBackupMembers({ header, manifest, ...verified }: VerifiedBackup, file: string | null) {
  return {
    file,
    state_key: header.state_key,
    revision: header.revision,
    epoch: header.epoch,
    exported_at: header.exported_at,
    /** Size of the unpacked JSON. */
    bytes: verified.bytes,
    documents: verified.documents,
    audit_entries: verified.auditEntries,
    state_sha256: manifest.state_sha256,
    audit_head: manifest.audit_head,
    manifest_sha256: manifest.sha256,
  };
}
