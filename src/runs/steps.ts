import { assertSameStore, type IdentityParts } from './store/store-identity.ts';

/** Runs steps that do not depend on each other. One object that nobody can delete must not stop the others. */
export interface Steps {
  /**
   * Keeps the fault of a step for `end`. Rejects if the node stops, or if the store or the database is away, because
   * all further steps would fail, too.
   */
  run(step: () => Promise<void>): Promise<void>;
  /** Throws the first fault. */
  end(): void;
}

export function createSteps(parts: IdentityParts, signal: AbortSignal): Steps {
  const faults: unknown[] = [];
  return {
    run: async (step) => {
      signal.throwIfAborted();
      try {
        await step();
      } catch (error) {
        if (signal.aborted) throw error;
        faults.push(error);
        await assertSameStore(parts, signal);
      }
    },
    end: () => {
      if (faults.length > 0) throw faults[0];
    },
  };
}
