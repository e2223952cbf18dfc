import { type KeepPolicy, selectExpired } from '../backup/stored/retention.ts';
import { readCatalogue } from './catalogue.ts';
import { deleteUnlessChanged } from './deletion.ts';
import type { CatalogueParts } from './parts.ts';
import { createSteps } from './steps.ts';
import { lookForOthers, storeShared } from './store/store-claim.ts';
import { readStoreId } from './store/store-identity.ts';

/**
 * Deletes the backups that the policy no longer keeps, one by one. Call it only after a success. The ledger has the
 * last word on each: it keeps the newest proven backup and the last one. Backups that may belong to another database
 * stay. Rejects with the first fault, after it has tried the rest, and else with `store_shared` if there is such a one.
 */
export async function applyRetention(parts: CatalogueParts, policy: KeepPolicy, signal: AbortSignal): Promise<void> {
  if (policy === 'all') return;
  const storeId = await readStoreId(parts, signal);
  if (storeId === undefined) return;
  const { isShared } = await lookForOthers(parts, storeId, signal);
  const catalogue = await readCatalogue(parts.ledger);
  const expired = new Set(selectExpired(catalogue, policy));
  const steps = createSteps(parts, signal);
  for (const entry of catalogue.filter(({ name, isOwn }) => isOwn && expired.has(name)).reverse())
    await steps.run(() => deleteUnlessChanged(parts, entry, signal));
  steps.end();
  if (isShared) throw storeShared(parts);
}
