// src/runs/proof/ proves a stored backup: reads it back, restores it into a scratch state and compares that. It imports
// what src/runs/ may, and knows nothing of schedules and runs.

import { PassThrough, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { decryptStream } from '../../backup/stored/encryption.ts';
import { readStoredManifest } from '../../backup/stored/stored-manifest.ts';
import { manifestNameOf } from '../../backup/stored/stored-name.ts';
import type { BackupManifest, RestoreReport } from '../../domain/backup.ts';
import type { WrittenBackup } from '../../domain/backup-run.ts';
import { codeOf, type ErrorCode, isLoomError, LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { findBackup, writtenOf } from '../catalogue.ts';
import type { RunParts } from '../parts.ts';
import { assertRestored, assertTrail } from './compare.ts';
import { createDigestGate, type ExpectedBytes } from './gate.ts';
import { createRestoreBody } from './restore-body.ts';

/** Describes the backup to prove. `written` is what the catalogue has of it. */
export interface Provable {
  name: string;
  written: WrittenBackup;
  isEncrypted: boolean;
  /** Private keys; empty if nothing but its bytes can be compared. */
  identities: readonly string[];
}

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
export async function proveBackup(parts: RunParts, backup: Provable, context: ProofContext): Promise<Proof> {
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
    if (!isAboutContent(error)) throw error;
    await compareBytes(parts, expected, context.signal);
    throw isLoomError(error) ? error : undecodable(name, error);
  }
}

const onlyCompared =
  'The backup is encrypted, and this node has no key for it, so only its bytes were compared. To prove it, set ' +
  'LOOM_BACKUP_IDENTITY_FILE.';

/** Compares the manifest in the store with the catalogue, and its members with the written bytes. */
async function compareManifest({ store }: RunParts, { name, written }: Provable, signal: AbortSignal): Promise<void> {
  const { manifest, sha256 } = await readStoredManifest(await store.get(manifestNameOf(name), signal), name);
  if (sha256 === written.manifestSha256 && manifest.sha256 === written.sha256) return;
  throw new LoomError(
    'stored_manifest_invalid',
    `The manifest ${JSON.stringify(manifestNameOf(name))} is not the one that was written: its SHA-256 is ${sha256}, ` +
      `expected ${written.manifestSha256}. Look for the cause in the store.`,
  );
}

/** Reads all stored bytes and compares them. Rejects with `stored_backup_damaged` or `stored_backup_missing`. */
async function compareBytes({ store }: RunParts, expected: ExpectedBytes, signal: AbortSignal): Promise<void> {
  const sink = new PassThrough().resume();
  await pipeline(await store.get(expected.name, signal), createDigestGate(expected), sink, { signal });
}

/** Returns the seconds of the restore. */
async function restoreAndCompare(parts: RunParts, backup: Provable, { runId, signal }: ProofContext): Promise<number> {
  const { verbs } = parts;
  const scratch = `${PROOF_PREFIX}${runId}`;
  const requestId = `run-${runId}`;
  try {
    const startedMs = performance.now();
    const { report, manifest } = await restoreStored(parts, backup, { scratch, requestId, signal });
    const restoreSeconds = (performance.now() - startedMs) / 1000;
    assertRestored(backup.name, manifest, report);
    assertTrail(backup.name, report, await verbs.verifyAudit({ requestId, signal }, scratch));
    return restoreSeconds;
  } finally {
    await dropProof(parts, scratch);
  }
}

async function restoreStored(
  parts: RunParts,
  backup: Provable,
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

/** Opens the stored bytes of a backup. The stream fails before its end unless they match the catalogue. */
export async function openStored(
  { store }: Pick<RunParts, 'store'>,
  name: string,
  { bytes, sha256 }: WrittenBackup,
  signal: AbortSignal,
): Promise<Readable> {
  const gate = createDigestGate({ name, bytes, sha256 });
  // The reader receives the error from the gate, which the pipeline destroys with it.
  pipeline(await store.get(name, signal), gate, { signal }).catch(() => undefined);
  return gate;
}

/**
 * Opens the text of a stored backup: decrypted and decompressed. The stream fails before its end unless the stored
 * bytes match the catalogue.
 */
export async function openPlain(
  { store }: Pick<RunParts, 'store'>,
  { name, written, isEncrypted, identities }: Provable,
  signal: AbortSignal,
): Promise<Readable> {
  const gate = await openStored({ store }, name, written, signal);
  const plain = createGunzip({ chunkSize: limits.gzipChunkBytes });
  // The reader receives the error from `plain`, which the pipelines destroy with it.
  const compressed = isEncrypted ? await decryptStream(gate, identities) : gate;
  pipeline(compressed, plain, { signal }).catch(() => undefined);
  return plain;
}

/** Opens the text of a backup of the catalogue for a restore. Rejects with `identity_missing` without its key. */
export async function openStoredText(parts: RunParts, name: string, signal: AbortSignal): Promise<Readable> {
  const entry = await findBackup(parts.ledger, name);
  const { identities } = parts.keys;
  if (entry.encrypted && identities.length === 0) throw noIdentity(name);
  return await openPlain(parts, { name, written: writtenOf(entry), isEncrypted: entry.encrypted, identities }, signal);
}

function noIdentity(name: string): LoomError {
  return new LoomError(
    'identity_missing',
    `The stored backup ${JSON.stringify(name)} is encrypted, and this node has no key. Set LOOM_BACKUP_IDENTITY_FILE to ` +
      'the file with its secret key.',
  );
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
  'identity_missing',
]);

/** Returns whether an error says something about the content of a backup, which damage in the store can explain. */
function isAboutContent(error: unknown): boolean {
  if (isLoomError(error))
    return contentCodes.has(error.code) || (error.code.startsWith('backup_') && error.code !== 'backup_running');
  return codeOf(error)?.startsWith('Z_') === true;
}

/** Returns whether an error shows that this backup cannot be restored, so that its proof is withdrawn. */
export function disproves(error: unknown): boolean {
  if (!isLoomError(error)) return false;
  return error.code === 'stored_backup_damaged' || (isAboutContent(error) && error.code !== 'identity_missing');
}

function undecodable(name: string, error: unknown): LoomError {
  const found = error instanceof Error ? error.message : String(error);
  return new LoomError(
    'backup_malformed',
    `The stored backup ${JSON.stringify(name)} has the bytes that were written, but they cannot be decompressed: ` +
      `${found}. Restore from another backup.`,
    { cause: error },
  );
}
