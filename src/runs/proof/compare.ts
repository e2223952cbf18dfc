import type { AuditHead, AuditVerdict } from '../../domain/audit.ts';
import type { BackupManifest, RestoreReport } from '../../domain/backup.ts';
import { LoomError } from '../../errors.ts';

/**
 * Compares a scratch state, as the database has it, with the manifest in the backup. Throws `proof_mismatch` with the
 * first difference.
 */
export function assertRestored(name: string, manifest: BackupManifest | undefined, report: RestoreReport): void {
  if (manifest === undefined) throw mismatch(name, 'its text does not end with its manifest');
  const { documents, audit, scratch } = report;
  const compared: [what: string, found: unknown, expected: unknown][] = [
    ['digest of the restored documents', scratch?.state_sha256, manifest.state_sha256],
    ['number of restored documents', documents.added + documents.changed + documents.unchanged, manifest.documents],
    ['number of restored audit entries', audit.adopted + audit.imported, manifest.audit_entries],
    ['audit head of the backup', headText(audit.backup_head), headText(manifest.audit_head)],
  ];
  for (const [what, found, expected] of compared) {
    if (found !== expected) throw mismatch(name, `the ${what} is ${String(found)}, expected ${String(expected)}`);
  }
}

/** Asserts that the trail of the scratch state is valid and ends where the restore said. Throws `proof_mismatch`. */
export function assertTrail(name: string, { scratch }: RestoreReport, verdict: AuditVerdict): void {
  if (!verdict.ok && verdict.reason === 'definition_mismatch') {
    // The functions of the database are at fault, not the backup.
    throw new LoomError('audit_chain_broken', `The restored audit trail could not be verified: ${verdict.detail}`);
  }
  if (!verdict.ok) {
    throw mismatch(name, `the restored audit trail is broken (${verdict.reason}): ${verdict.detail}`);
  }
  const [found, expected] = [headText(verdict.head), headText(scratch?.audit_head)];
  if (found !== expected) throw mismatch(name, `the restored audit head is ${found}, expected ${expected}`);
}

function headText(head: AuditHead | null | undefined): string {
  return head === null || head === undefined ? 'unknown' : `${head.seq} ${head.hash}`;
}

function mismatch(name: string, found: string): LoomError {
  return new LoomError(
    'proof_mismatch',
    `The stored backup ${JSON.stringify(name)} was restored into a scratch state, but ${found}. ` +
      'Keep it for an analysis, and take another backup.',
  );
}
