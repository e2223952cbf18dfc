import type { ChainCheckRecord } from '../../domain/store.ts';

export type ChainChecks = ReturnType<typeof createChainChecks>;

/** Keeps this node's last verdict on its chain. A valid check of a part never replaces a broken verdict. */
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
