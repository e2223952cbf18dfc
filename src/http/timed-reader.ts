import { LoomError } from '../errors.ts';
import { limits } from '../limits.ts';

/**
 * Wraps a read of the database for routes that must answer soon: rejects with `database_unavailable` after the
 * deadline. Callers share a read in flight, so a database that does not answer is not asked again.
 */
export function createTimedReader<T>(read: () => Promise<T>, deadlineMs = limits.observeTimeoutMs): () => Promise<T> {
  let inFlight: Promise<T> | undefined;
  return async () => {
    inFlight ??= read().finally(() => {
      inFlight = undefined;
    });
    return await withDeadline(inFlight, deadlineMs);
  };
}

async function withDeadline<T>(work: Promise<T>, deadlineMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const detail = `The database did not answer within ${deadlineMs} ms.`;
      reject(new LoomError('database_unavailable', detail, { retryAfterSeconds: limits.databaseRetrySeconds }));
    }, deadlineMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
