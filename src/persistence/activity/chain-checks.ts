import { chainFaults } from '../../domain/audit.ts';
import type { ChainCheckRecord } from '../../domain/store.ts';

export type ChainChecks = ReturnType<typeof createChainChecks>;

/**
 * Keeps this node's last verdict on its chain. A valid check of a part never replaces a broken verdict. A valid backup
 * does not replace a verdict on what only a verification checks, either.
 */
export function createChainChecks() {
  let last: ChainCheckRecord | null = null;
  return {
    record: (check: Omit<ChainCheckRecord, 'checked_at'>): void => {
      const isPart = check.from_seq > 1 || (check.by === 'backup' && isOnlyVerified(last?.reason));
      if (check.ok && isPart && last?.ok === false) return;
      last = { ...check, checked_at: new Date().toISOString() };
    },
    /** Returns null until the first check by this node. */
    last: () => last,
  };
}

/** Returns whether a fault is one that a backup cannot find: it is not in the chain. */
function isOnlyVerified(reason: ChainCheckRecord['reason']): boolean {
  return reason !== undefined && !chainFaults.some((fault) => fault === reason);
}
