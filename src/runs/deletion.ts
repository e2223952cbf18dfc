import { readStoredManifest } from '../backup/stored/stored-manifest.ts';
import { manifestNameOf } from '../backup/stored/stored-name.ts';
import type { CatalogueEntry } from '../domain/backup-run.ts';
import { codeOf, isLoomError, LoomError } from '../errors.ts';
import { limits } from '../limits.ts';
import type { RunParts } from './parts.ts';

type Parts = Pick<RunParts, 'ledger' | 'store' | 'log'>;

/** Returns the signal of one deletion: from its mark on, it has a deadline, so that no other node is in its way. */
export function deletionSignal(signal: AbortSignal): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(limits.deletionTimeoutMs)]);
}

/**
 * Deletes a backup that is marked for deletion, if the store still has what the catalogue says. Otherwise removes the
 * mark, notes the fault, and keeps the object. Returns whether it was deleted.
 */
export async function deleteIfUnchanged(parts: Parts, entry: CatalogueEntry, signal: AbortSignal): Promise<boolean> {
  const { ledger, log } = parts;
  const fault = await findDifference(parts, entry, signal);
  if (fault !== undefined) {
    log.error({ backup: entry.name, code: fault.code }, `a stored backup was not deleted: ${fault.message}`);
    await ledger.cancelDeletion(entry.name, { code: fault.code, detail: fault.message });
    return false;
  }
  await deleteObjects(parts, entry.name, signal);
  return true;
}

/**
 * Deletes a marked backup: first its manifest, so that no manifest promises a backup that is gone, then its object. An
 * earlier attempt may have deleted either.
 */
export async function deleteObjects({ ledger, store, log }: Parts, name: string, signal: AbortSignal): Promise<void> {
  await store.delete(manifestNameOf(name), signal);
  await store.delete(name, signal);
  await ledger.recordDeleted(name);
  log.info({ backup: name }, 'a stored backup was deleted');
}

/** Compares the size of the object, and the digest of the manifest. An object that is gone already does not differ. */
async function findDifference(
  { store }: Parts,
  { name, bytes, manifestSha256 }: CatalogueEntry,
  signal: AbortSignal,
): Promise<LoomError | undefined> {
  const found = await store.head(name, signal);
  if (found !== undefined && bytes !== null && found.bytes !== bytes)
    return differs(name, `it has ${found.bytes} bytes, and the catalogue says ${bytes}`);
  if (manifestSha256 === null) return undefined;
  try {
    const { sha256 } = await readStoredManifest(await store.get(manifestNameOf(name), signal), name);
    return sha256 === manifestSha256 ? undefined : differs(name, 'its manifest is not the one that was written');
  } catch (error) {
    if (codeOf(error) === 'stored_backup_missing') return undefined;
    if (isLoomError(error) && error.code === 'stored_manifest_invalid') return error;
    throw error;
  }
}

function differs(name: string, found: string): LoomError {
  return new LoomError(
    'stored_backup_damaged',
    `The stored backup ${JSON.stringify(name)} differs from the catalogue: ${found}. ` +
      'LOOM keeps it. Look for the cause in the store, then delete it yourself.',
  );
}
