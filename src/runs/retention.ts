import { type KeepPolicy, selectExpired } from '../backup/stored/retention.ts';
import { readCatalogue } from './catalogue.ts';
import { deleteUnlessChanged } from './deletion.ts';
import type { RunParts } from './parts.ts';
import { createSteps } from './steps.ts';
import { assertSameStore } from './store-identity.ts';

/**
 * Deletes the backups that the policy no longer keeps, one by one. Call it only after a success. The ledger has the
 * last word on each: it keeps the newest proven backup and the last one. Rejects with the first fault, after it has
 * tried the rest.
 */
export async function applyRetention(
  parts: Pick<RunParts, 'ledger' | 'store' | 'stateKey' | 'log'>,
  policy: KeepPolicy,
  signal: AbortSignal,
): Promise<void> {
  if (policy === 'all') return;
  await assertSameStore(parts, signal);
  const catalogue = await readCatalogue(parts.ledger);
  const expired = new Set(selectExpired(catalogue, policy));
  const steps = createSteps(parts, signal);
  for (const entry of catalogue.filter(({ name }) => expired.has(name)).reverse())
    await steps.run(() => deleteUnlessChanged(parts, entry, signal));
  steps.end();
}
