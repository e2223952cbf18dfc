import type { ChainCheckRecord } from '../../domain/store.ts';

export interface ChainChecks {
  record(check: Omit<ChainCheckRecord, 'checked_at'>): void;
  /** Returns null until the first check by this node. */
  last(): ChainCheckRecord | null;
}

/**
 * Keeps the last verdict of this node on its chain. A valid part does not replace the finding that the chain is broken: only a check
 * from the first entry on does.
 */
export function createChainChecks(): ChainChecks {
  let last: ChainCheckRecord | null = null;
  return {
    record: (check) => {
      if (check.ok && check.from_seq > 1 && last?.ok === false) return;
      last = { ...check, checked_at: new Date().toISOString() };
    },
    last: () => last,
  };
}
