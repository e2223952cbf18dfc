// src/runs/proof/ proves a stored backup: reads it back, restores it into a scratch state and compares that. It imports
// what src/runs/ may, and knows nothing of schedules and runs.

import { pipeline } from 'node:stream/promises';
import { readStoredManifest } from '../../backup/stored/stored-manifest.ts';
import { manifestNameOf } from '../../backup/stored/stored-name.ts';
import type { BackupManifest, RestoreReport } from '../../domain/backup.ts';
import { codeOf, type ErrorCode, isLoomError, LoomError } from '../../errors.ts';
import type { RunParts } from '../parts.ts';
import { assertRestored, assertTrail } from './compare.ts';
import type { ExpectedBytes } from './gate.ts';
import { compareBytes, type Openable, openPlain } from './open.ts';
import { createRestoreBody } from './restore-body.ts';

/** Tells how a proof ended. Without a key, an encrypted backup is only compared with the written bytes. */
export type Proof = { kind: 'proven'; restoreSeconds: number } | { kind: 'verified'; detail: string };

/** Names the run that proves, and aborts its proof. */
export interface ProofContext {
  runId: string;
  signal: AbortSignal;
}

/** Begins the names of the scratch states of proofs. The id of the run follows. */
export const PROOF_PREFIX = 'proof-';

/**
 * Proves a stored backup: reads it back, restores it into a scratch state, compares that with the backup, and verifies
 * its trail. Rejects with the fault. A wrong digest of the stored bytes outranks any other fault, because it explains
 * them.
 */
export async function proveBackup(parts: RunParts, backup: Openable, context: ProofContext): Promise<Proof> {
  const { name, written } = backup;
  const expected: ExpectedBytes = { name, bytes: written.bytes, sha256: written.sha256 };
  try {
    await compareManifest(parts, backup, context.signal);
    if (backup.isEncrypted && backup.identities.length === 0) {
      await compareBytes(parts, expected, context.signal);
      return { kind: 'verified', detail: onlyCompared };
    }
    return { kind: 'proven', restoreSeconds: await restoreAndCompare(parts, backup, context) };
  } catch (error) {
    context.signal.throwIfAborted();
    if (!isLoomError(error) || !isAboutContent(error)) throw error;
    await compareBytes(parts, expected, context.signal);
    throw error;
  }
}

const onlyCompared =
  'The backup is encrypted, and this node has no key for it, so only its bytes were compared. To prove it, set ' +
  'LOOM_BACKUP_IDENTITY_FILE.';

/** Compares the manifest in the store with the catalogue, and its members with the written bytes. */
async function compareManifest({ store }: RunParts, { name, written }: Openable, signal: AbortSignal): Promise<void> {
  const { manifest, sha256 } = await readStoredManifest(await store.get(manifestNameOf(name), signal), name);
  if (sha256 === written.manifestSha256 && manifest.sha256 === written.sha256) return;
  throw new LoomError(
    'stored_manifest_invalid',
    `The manifest ${JSON.stringify(manifestNameOf(name))} is not the one that was written: its SHA-256 is ${sha256}, ` +
      `expected ${written.manifestSha256}. Look for the cause in the store.`,
  );
}

/** Returns the seconds of the restore. */
async function restoreAndCompare(parts: RunParts, backup: Openable, { runId, signal }: ProofContext): Promise<number> {
  const { verbs } = parts;
  const scratch = `${PROOF_PREFIX}${runId}`;
  const requestId = `run-${runId}`;
  try {
    const startedMs = performance.now();
    const { report, manifest } = await restoreStored(parts, backup, { scratch, requestId, signal });
    const restoreSeconds = (performance.now() - startedMs) / 1000;
    assertRestored(backup.name, manifest, report);
    assertTrail(backup.name, report, await verbs.verifyAudit({ requestId, signal, isPatient: true }, scratch));
    return restoreSeconds;
  } finally {
    await dropProof(parts, scratch);
  }
}

async function restoreStored(
  parts: RunParts,
  backup: Openable,
  { scratch, requestId, signal }: { scratch: string; requestId: string; signal: AbortSignal },
): Promise<{ report: RestoreReport; manifest: BackupManifest | undefined }> {
  const { body, manifest } = createRestoreBody(scratch);
  const plain = await openPlain(parts, backup, signal);
  // The restore destroys the body when it fails. Its own error says more than that of the pipeline.
  const piped = pipeline(plain, body, { signal }).then(
    () => undefined,
    (error: unknown) => error,
  );
  const caller = { actor: 'admin', actorName: 'LOOM' } as const;
  try {
    const report = await parts.verbs.restore(body, { requestId, signal, caller, isPatient: true });
    return { report, manifest: manifest() };
  } finally {
    body.destroy();
    await piped;
  }
}

/** Drops the scratch state of a proof. A sweep drops what is left after a failure. */
async function dropProof({ verbs, log }: RunParts, scratch: string): Promise<void> {
  try {
    await verbs.dropScratch(scratch);
  } catch (error) {
    if (codeOf(error) === 'scratch_not_found') return;
    log.warn({ err: error, scratch }, 'the scratch state of a proof could not be dropped yet');
  }
}

const contentCodes: ReadonlySet<ErrorCode> = new Set([
  'stored_backup_missing',
  'stored_manifest_invalid',
  'proof_mismatch',
  'audit_entry_too_large',
  'document_too_large',
  'invalid_json',
  'invalid_utf8',
  'invalid_number',
  'invalid_string',
  'invalid_document_name',
  'duplicate_member',
  'nested_too_deeply',
  'state_not_object',
]);

/** Returns whether an error says something about the content of a backup, which damage in the store can explain. */
function isAboutContent({ code }: LoomError): boolean {
  return contentCodes.has(code) || (code.startsWith('backup_') && code !== 'backup_running');
}

/** Returns whether an error shows that this backup cannot be restored, so that its proof is withdrawn. */
export function disproves(error: unknown): error is LoomError {
  return isLoomError(error) && (error.code === 'stored_backup_damaged' || isAboutContent(error));
}
