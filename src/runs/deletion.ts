import { readStoredManifest } from '../backup/stored/stored-manifest.ts';
import { manifestNameOf } from '../backup/stored/stored-name.ts';
import type { CatalogueEntry } from '../domain/backup-run.ts';
import { codeOf, isLoomError, LoomError } from '../errors.ts';
import { limits } from '../limits.ts';
import { withinDeadline } from './deadline.ts';
import type { CatalogueParts } from './parts.ts';
import { assertSameStore } from './store/store-identity.ts';

/** Bounds one deletion: from its mark on, it has a deadline, so that no other node is in its way. */
export function deleteInTime(
  { store }: Pick<CatalogueParts, 'store'>,
  signal: AbortSignal,
  deletion: (bounded: AbortSignal) => Promise<void>,
): Promise<void> {
  return withinDeadline(store, limits.deletionTimeoutMs, signal, deletion);
}

/**
 * Deletes a backup if the store has what the catalogue says, and the rules allow it. Looks at the object before it
 * marks the row. So an object that is absent after a mark was deleted by LOOM, and one that is absent before is
 * missing: its row stays, with a fault. The caller has asserted that this is the store of the catalogue.
 */
export function deleteUnlessChanged(parts: CatalogueParts, entry: CatalogueEntry, signal: AbortSignal): Promise<void> {
  return deleteInTime(parts, signal, async (bounded) => {
    const fault = await findDifference(parts, entry, bounded);
    if (fault !== undefined) {
      await assertSameStore(parts, bounded);
      await noteDifference(parts, entry, fault);
      return;
    }
    if (await parts.ledger.beginDeletion(entry.name)) await deleteObjects(parts, entry.name, bounded);
  });
}

/**
 * Finishes a deletion that a node has begun and left. Either object may be gone. If the object differs from the
 * catalogue, removes the mark, notes the fault, and keeps the object.
 */
export function finishDeletion(parts: CatalogueParts, entry: CatalogueEntry, signal: AbortSignal): Promise<void> {
  const { ledger, log } = parts;
  return deleteInTime(parts, signal, async (bounded) => {
    const fault = await findDifference(parts, entry, bounded);
    if (fault === undefined || fault.code === 'stored_backup_missing') {
      await deleteObjects(parts, entry.name, bounded);
      return;
    }
    log.error({ backup: entry.name, code: fault.code }, `a stored backup was not deleted: ${fault.message}`);
    await ledger.cancelDeletion(entry.name, { code: fault.code, detail: fault.message });
  });
}

/**
 * Deletes a marked backup: first its manifest, so that no manifest promises a backup that is gone, then its object. An
 * earlier attempt may have deleted either. Records it only if the store is still that of the catalogue: in another
 * one, both objects were absent all the time.
 */
export async function deleteObjects(parts: CatalogueParts, name: string, signal: AbortSignal): Promise<void> {
  const { ledger, store, log } = parts;
  await store.delete(manifestNameOf(name), signal);
  await store.delete(name, signal);
  await assertSameStore(parts, signal);
  await ledger.recordDeleted(name);
  log.info({ backup: name }, 'a stored backup was deleted');
}

/** Withdraws the proof of a backup, and notes why. Keeps the time of a fault that is known. */
export async function noteDifference(
  { ledger, log }: Pick<CatalogueParts, 'ledger' | 'log'>,
  { name, fault: known, proven_at: provenAt }: CatalogueEntry,
  { code, message }: LoomError,
): Promise<void> {
  if (known?.code === code && provenAt === null) return;
  if (!(await ledger.noteFault(name, { code, detail: message }))) return;
  log.error({ backup: name, code }, `a stored backup differs from the catalogue: ${message}`);
}

/** Compares the size of the object, and the digest of the manifest. Of an incomplete backup, any part may be absent. */
async function findDifference(
  { store }: Pick<CatalogueParts, 'store'>,
  { name, bytes, manifestSha256 }: CatalogueEntry,
  signal: AbortSignal,
): Promise<LoomError | undefined> {
  if (bytes === null || manifestSha256 === null) return undefined;
  const found = await store.head(name, signal);
  if (found === undefined) return missing(name, name);
  if (found.bytes !== bytes) return differs(name, `it has ${found.bytes} bytes, and the catalogue says ${bytes}`);
  try {
    const { sha256 } = await readStoredManifest(await store.get(manifestNameOf(name), signal), name);
    return sha256 === manifestSha256 ? undefined : differs(name, 'its manifest is not the one that was written');
  } catch (error) {
    if (codeOf(error) === 'stored_backup_missing') return missing(name, manifestNameOf(name));
    if (isLoomError(error) && error.code === 'stored_manifest_invalid') return error;
    throw error;
  }
}

/** Creates the error for a backup of which the store no longer has an object that LOOM did not delete. */
export function missing(name: string, object: string): LoomError {
  return new LoomError(
    'stored_backup_missing',
    `The store no longer has the object ${JSON.stringify(object)} of the stored backup ${JSON.stringify(name)}, and LOOM ` +
      'has not deleted it. Bring it back under its name, or delete the backup from the catalogue.',
  );
}

function differs(name: string, found: string): LoomError {
  return new LoomError(
    'stored_backup_damaged',
    `The stored backup ${JSON.stringify(name)} differs from the catalogue: ${found}. ` +
      'LOOM keeps it. Look for the cause in the store, then delete it yourself.',
  );
}
