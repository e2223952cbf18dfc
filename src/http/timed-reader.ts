import { setTimeout as sleep } from 'node:timers/promises';
import { LoomError } from '../errors.ts';
import { limits } from '../limits.ts';

/**
 * Wraps a read of the database so that it rejects with `database_unavailable` after a deadline. Callers share the read
 * in flight, so an unresponsive database receives no further queries.
 */
export function createTimedReader<T>(read: () => Promise<T>): () => Promise<T> {
  let inFlight: Promise<T> | undefined;
  return async () => {
    inFlight ??= read().finally(() => {
      inFlight = undefined;
    });
    const answered = new AbortController();
    const late = sleep(limits.observeTimeoutMs, undefined, { signal: answered.signal }).then(() => {
      const detail = `The database did not answer within ${limits.observeTimeoutMs} ms.`;
      throw new LoomError('database_unavailable', detail, { retryAfterSeconds: limits.databaseRetrySeconds });
    });
    try {
      return await Promise.race([inFlight, late]);
    } finally {
      answered.abort();
    }
  };
}

/** Wraps a costly read so that it succeeds at most once in `everyMs`. In between, the last result stands. */
export function createSampledReader<T>(read: () => Promise<T>, everyMs: number): () => Promise<T | undefined> {
  let sample: { value: T; takenMs: number } | undefined;
  return async () => {
    if (sample !== undefined && performance.now() - sample.takenMs < everyMs) return sample.value;
    try {
      const value = await read();
      sample = { value, takenMs: performance.now() };
      return value;
    } catch {
      return undefined;
    }
  };
}
