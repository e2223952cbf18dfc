import type { CommitFailures } from '../../domain/store.ts';
import { describeFault, type Fault, faultOf, sqlStateOf } from '../connection/faults.ts';

/** Counts the batches that fail one after another because of the server, for the probe. */
export function createCommitFailures(now: () => number = () => performance.now()) {
  let failures = { batches: 0, fault: '' };
  let lastMs = 0;

  return {
    read: (): CommitFailures => ({ ...failures, ageMs: now() - lastMs }),
    /** Runs one batch, and counts it if the server failed it. Any committed batch ends the count. */
    count: async <T>(batch: Promise<T>): Promise<T> => {
      try {
        const outcome = await batch;
        failures = { batches: 0, fault: '' };
        return outcome;
      } catch (error) {
        if (isServersFault(error)) {
          failures = { batches: failures.batches + 1, fault: describeFault(error) };
          lastMs = now();
        }
        throw error;
      }
    },
  };
}

/**
 * Returns whether the server would fail every commit. Faults that one client could cause with its documents, such as
 * exhausted memory or a timeout, do not count: no client may turn a node unready. An unreachable server has its own
 * reason.
 */
function isServersFault(error: unknown): boolean {
  const state = sqlStateOf(error) ?? '';
  return serversFaults.has(faultOf(error)) || /^(58|XX00[12])/.test(state);
}

const serversFaults: ReadonlySet<Fault> = new Set(['disk_full', 'read_only', 'forbidden', 'schema_damaged', 'damaged']);
