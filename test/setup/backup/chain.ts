import { chainHash, manifestDigest } from '../../../src/backup/format/digests.ts';
import type { BackupHeader, BackupManifest } from '../../../src/domain/backup.ts';
import { canonicalText } from '../../../src/json/canonical.ts';

/** A backup as `JSON.parse` returns it. */
export interface ParsedBackup extends BackupHeader {
  state: Record<string, unknown>;
  document_sha256: Record<string, string>;
  audit_entries: Record<string, unknown>[];
  manifest: BackupManifest;
}

/** Recomputes the manifest's digest, so that a test reaches the later checks. */
export function seal(backup: ParsedBackup): ParsedBackup {
  const { state: _state, document_sha256: _digests, audit_entries: _entries, manifest, ...header } = backup;
  manifest.sha256 = manifestDigest(header, manifest);
  return backup;
}

/** Recomputes the hashes of all entries, as a forger who knows the format would. The chain is valid afterwards. */
export function relink(backup: ParsedBackup): ParsedBackup {
  let { previous_hash: hash } = backup.manifest.audit_first ?? { previous_hash: '' };
  for (const entry of backup.audit_entries) {
    const { hash: _old, ...content } = entry;
    hash = chainHash(hash, Buffer.from(canonicalText(content)));
    entry.hash = hash;
  }
  const last = backup.audit_entries.at(-1);
  backup.manifest.audit_entries = backup.audit_entries.length;
  backup.manifest.audit_head = { seq: Number(last?.seq), hash };
  return seal(backup);
}
