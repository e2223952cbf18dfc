import { manifestNameOf, storedNamePrefix } from '../backup/stored/stored-name.ts';
import type { CatalogueEntry } from '../domain/backup-run.ts';
import { codeOf } from '../errors.ts';
import { limits } from '../limits.ts';
import { readCatalogue } from './catalogue.ts';
import { deleteUnlessChanged, finishDeletion, missing, noteDifference } from './deletion.ts';
import type { RunParts } from './parts.ts';
import { PROOF_PREFIX } from './proof/proof.ts';
import { createSteps } from './steps.ts';
import { lookForOthers } from './store/store-claim.ts';
import { assertSameStore, readStoreId } from './store/store-identity.ts';

/**
 * Removes what nodes left behind that died or lost the database: scratch states of proofs, rows without an object,
 * incomplete objects, deletions that had begun, temporary objects. Notes backups that the store no longer has. Deletes
 * nothing that may belong to another database. Any node may call it at any time, and repeat it. Rejects with the first
 * fault, after it has tried the rest.
 */
export async function sweep(parts: RunParts, signal: AbortSignal): Promise<void> {
  const steps = createSteps(parts, signal);
  await steps.run(() => dropLeftProofs(parts));
  const storeId = await readStoreId(parts, signal);
  const claim = storeId === undefined ? undefined : await lookForOthers(parts, storeId, signal);
  const now = await parts.ledger.readClock();
  const catalogue = await readCatalogue(parts.ledger);
  let hasNewerProof = false;
  for (const entry of catalogue) {
    if (entry.deletionBegunAt !== null) {
      if (entry.isOwn) await steps.run(() => settleDeletion(parts, entry, now, signal));
    } else if (isIncomplete(entry)) {
      const isBelowProof = hasNewerProof;
      // The object of a run in another store would not be found here.
      if (entry.storeId === storeId) await steps.run(() => settleIncomplete(parts, entry, isBelowProof, signal));
    } else if (entry.proven_at !== null) hasNewerProof = true;
  }
  await steps.run(() => noteMissing(parts, catalogue, signal));
  // Another database may be writing them.
  if (claim?.mayBeShared !== true) await steps.run(() => sweepTemporaryObjects(parts, now, signal));
  steps.end();
}

/**
 * Withdraws the proof of each backup whose object or manifest is gone, so that status and alarms know it before its
 * next drill. Asserts after the look that the store is still that of the catalogue.
 */
async function noteMissing(parts: RunParts, catalogue: CatalogueEntry[], signal: AbortSignal): Promise<void> {
  const { store, stateKey } = parts;
  if (catalogue.every(({ bytes }) => bytes === null)) return;
  const listed = new Set<string>();
  for await (const { name } of store.list(storedNamePrefix(stateKey), signal)) listed.add(name);
  const absent: { entry: CatalogueEntry; object: string }[] = [];
  for (const entry of catalogue.filter(({ bytes, outcome }) => bytes !== null && outcome !== 'running')) {
    const object = [entry.name, manifestNameOf(entry.name)].find((one) => !listed.has(one));
    if (object !== undefined && (await store.head(object, signal)) === undefined) absent.push({ entry, object });
  }
  if (absent.length === 0) return;
  await assertSameStore(parts, signal);
  for (const { entry, object } of absent) await noteDifference(parts, entry, missing(entry.name, object));
}

/** Drops the scratch states of proofs whose run has ended. */
async function dropLeftProofs({ verbs, ledger, log }: RunParts): Promise<void> {
  for (const { state_key: scratch } of await verbs.readScratchStates()) {
    const id = proofId.exec(scratch)?.[1];
    if (id === undefined) continue;
    const run = await ledger.readRun(id);
    if (run?.outcome === 'running') continue;
    try {
      await verbs.dropScratch(scratch);
      log.info({ scratch }, 'the scratch state of an interrupted proof was dropped');
    } catch (error) {
      // Another node was faster.
      if (codeOf(error) !== 'scratch_not_found') throw error;
    }
  }
}

const proofId = new RegExp(`^${PROOF_PREFIX}([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$`);

/** Returns whether the run ended before it had written all of the backup. */
function isIncomplete({ bytes, outcome }: CatalogueEntry): boolean {
  return bytes === null && outcome !== 'running';
}

/** Finishes a deletion that another node has begun and left, or cancels it if a rule forbids it now. */
async function settleDeletion(parts: RunParts, entry: CatalogueEntry, now: Date, signal: AbortSignal): Promise<void> {
  const { ledger } = parts;
  const begunAt = new Date(entry.deletionBegunAt ?? now);
  if (now.getTime() - begunAt.getTime() < limits.staleDeletionMs) return;
  if (await ledger.beginDeletion(entry.name)) {
    await finishDeletion(parts, entry, signal);
    return;
  }
  await ledger.cancelDeletion(entry.name);
}

/**
 * Notes that a run never wrote its object, or deletes the object once a newer backup is proven. Until then, it stays:
 * it may be the only backup, and a person can look at it.
 */
async function settleIncomplete(
  parts: RunParts,
  entry: CatalogueEntry,
  hasNewerProof: boolean,
  signal: AbortSignal,
): Promise<void> {
  const { ledger, store } = parts;
  if ((await store.head(entry.name, signal)) === undefined) {
    await ledger.recordNeverWritten(entry.name);
    return;
  }
  if (!hasNewerProof || !entry.isOwn) return;
  await deleteUnlessChanged(parts, entry, signal);
}

/**
 * Deletes old temporary objects. Leaves them while any run is running: if the clocks of the store and the database
 * differ by more than the maximum age, the upload of that run would look old.
 */
async function sweepTemporaryObjects(
  { ledger, store, stateKey, log }: RunParts,
  now: Date,
  signal: AbortSignal,
): Promise<void> {
  const { running } = await ledger.observe();
  if (running.some(({ kind }) => kind !== 'drill')) return;
  const age = { olderThanMs: limits.maxTemporaryAgeMs, now };
  const deleted = await store.sweep(storedNamePrefix(stateKey), age, signal);
  if (deleted > 0) log.info({ deleted }, 'old temporary objects were deleted from the backup store');
}
