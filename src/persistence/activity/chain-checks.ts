import type { ChainCheckRecord } from '../../domain/store.ts';

export type ChainChecks = ReturnType<typeof createChainChecks>;

/**
 * Keeps the last verdict of this node on its chain. A valid part does not replace the finding that the chain is broken: only a check
 * from the first entry on does.
 */
export function createChainChecks() {
  let last: ChainCheckRecord | null = null;
  return {
    record: (check: Omit<ChainCheckRecord, 'checked_at'>): void => {
      if (check.ok && check.from_seq > 1 && last?.ok === false) return;
      last = { ...check, checked_at: new Date().toISOString() };
    },
    /** Returns null until the first check by this node. */
    last: () => last,
  };
}
