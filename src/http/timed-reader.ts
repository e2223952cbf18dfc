import { LoomError } from '../errors.ts';
import { limits } from '../limits.ts';

/**
 * Reads from the database for those who must be answered soon: rejects with `database_unavailable` after the deadline.
 * Who asks while a read is under way shares it, so that a database which is silent is not asked again and again.
 */
export function createTimedReader<T>(read: () => Promise<T>, deadlineMs = limits.observeTimeoutMs): () => Promise<T> {
  let underWay: Promise<T> | undefined;
  return async () => {
    underWay ??= read().finally(() => {
      underWay = undefined;
    });
    return await withDeadline(underWay, deadlineMs);
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
