// persistence/activity/ keeps this node's running operations and last verdict on the chain in memory, for status and
// metrics. It imports only domain. It must not know SQL.

import type { OperationPhase, RunningOperation } from '../../domain/store.ts';

export interface Progress {
  /** Adds to the counts so far. */
  count(more: { documents?: number; entries?: number; bytes?: number }): void;
  /** Marks a restore or undo as a dry run. */
  becomePlan(): void;
  /** Names what the operation does from now on. */
  enter(phase: OperationPhase): void;
}

/** Tracks one operation, from `begin` to the first `finish`. */
export interface TrackedOperation extends Progress {
  /** Ends the operation; `error` is undefined after a success. A second call has no effect. */
  finish(error: unknown): void;
}

export type Operations = ReturnType<typeof createOperations>;

type Kind = RunningOperation['kind'];

/** Keeps the list of running operations of this node, for status. Calls `onEnd` after each. */
export function createOperations(onEnd: (operation: RunningOperation, error: unknown) => void = () => undefined) {
  const running = new Set<RunningOperation>();

  function begin(kind: Kind, requestId: string): TrackedOperation {
    const operation: RunningOperation = {
      kind,
      started_at: new Date().toISOString(),
      request_id: requestId,
      documents: 0,
      audit_entries: 0,
      bytes: 0,
    };
    running.add(operation);
    return {
      count: ({ documents = 0, entries = 0, bytes = 0 }) => {
        operation.documents += documents;
        operation.audit_entries += entries;
        operation.bytes += bytes;
      },
      becomePlan: () => {
        operation.kind = 'plan';
      },
      enter: (phase) => {
        operation.phase = phase;
      },
      finish: (error) => {
        if (running.delete(operation)) onEnd(operation, error);
      },
    };
  }

  return {
    begin,
    /** Tracks `run` until it settles. */
    track: async <T>(kind: Kind, requestId: string, run: (progress: Progress) => Promise<T>): Promise<T> => {
      const operation = begin(kind, requestId);
      try {
        const result = await run(operation);
        operation.finish(undefined);
        return result;
      } catch (error) {
        operation.finish(error);
        throw error;
      }
    },
    running: () => [...running],
    /** Ends every operation with `error`, for a node that no longer waits for them. */
    endAll: (error: unknown): void => {
      for (const operation of running) {
        running.delete(operation);
        onEnd(operation, error);
      }
    },
  };
}
