import { Readable } from 'node:stream';
import { writeStoreClaim } from '../../backup/stored/store-marker.ts';
import { storeClaimNameOf, storeClaimPrefix } from '../../backup/stored/stored-name.ts';
import type { StoreClaim } from '../../domain/object-store.ts';
import { LoomError } from '../../errors.ts';
import type { CatalogueParts } from '../parts.ts';

/**
 * Looks for another database that uses the store for the same state, and keeps the claim of this one. Each database
 * removes the claims of all others. So a claim that disappears shows another database, and one that stands shows that
 * there is none. Returns the claim afterwards. `storeId` is that of the store.
 */
export async function lookForOthers(parts: CatalogueParts, storeId: string, signal: AbortSignal): Promise<StoreClaim> {
  const { ledger, store, stateKey } = parts;
  const found: string[] = [];
  for await (const { name } of store.list(storeClaimPrefix(stateKey), signal)) found.push(name);
  // Read after the list: so it knows every claim of this database that the list has.
  const claim = await ledger.readStoreClaim(storeId);
  const own = storeClaimNameOf(stateKey, claim.id);
  await removeClaims(parts, claim, claim.isSettled ? found : found.filter((name) => name !== own), signal);
  if (!claim.isSettled) await keepClaim(parts, claim, signal);
  return await ledger.readStoreClaim(storeId);
}

/** Removes claims from the store. One that this database has never made shows another database. */
async function removeClaims(
  { ledger, store, stateKey, log }: CatalogueParts,
  claim: StoreClaim,
  names: string[],
  signal: AbortSignal,
): Promise<void> {
  const known = new Set([claim.id, ...claim.earlier].map((id) => storeClaimNameOf(stateKey, id)));
  for (const name of names) {
    if (!known.has(name)) {
      await ledger.noteSharedStore();
      log.warn({ store: store.address, claim: name }, 'another database claims the backup store: its claim is removed');
    }
    await store.delete(name, signal);
  }
}

/** Puts the claim into the store, notices that another database has removed it, or settles it. */
async function keepClaim(parts: CatalogueParts, claim: StoreClaim, signal: AbortSignal): Promise<void> {
  const { ledger, store, stateKey, log } = parts;
  const name = storeClaimNameOf(stateKey, claim.id);
  if (!claim.isPlaced) {
    await putClaim(parts, claim.id, signal);
    await ledger.recordClaimPlaced(claim.id);
    log.info(
      { store: store.address, claim: name },
      'the database or its server is new to the backup store: earlier backups stay until its claim has stood long enough',
    );
    return;
  }
  // The list may be older than the object.
  if ((await store.head(name, signal)) === undefined) {
    if (!(await ledger.replaceClaim(claim.id))) return;
    log.warn({ store: store.address, claim: name }, 'another database has removed the claim to the backup store');
    return;
  }
  if (!claim.isDue || !(await ledger.settleClaim(claim.id))) return;
  log.info({ store: store.address }, 'no other database uses the backup store: old backups are deleted again');
  await store.delete(name, signal);
}

async function putClaim({ store, stateKey }: CatalogueParts, id: string, signal: AbortSignal): Promise<void> {
  const name = storeClaimNameOf(stateKey, id);
  try {
    await store.put(name, Readable.from([Buffer.from(writeStoreClaim(id))]), signal);
  } catch (error) {
    // Another node of this database was faster.
    if ((await store.head(name, signal)) === undefined) throw error;
  }
}

/** Creates the error for a store that another database uses, too. */
export function storeShared({ store, stateKey }: Pick<CatalogueParts, 'store' | 'stateKey'>): LoomError {
  return new LoomError(
    'store_shared',
    `Another database takes backups of the state key ${JSON.stringify(stateKey)} into the store ${store.address}, such as ` +
      'a copy of this one, or its original. LOOM deletes no backup that may belong to the other one. Stop the nodes of ' +
      'one of them, or give it a store of its own: see "A copy of the database" in docs/stored-backups.md.',
  );
}
