import type { LoomError } from './errors.ts';
import { limits } from './limits.ts';
import type { Log } from './log.ts';

/** Names why requests fail. */
export interface Cause {
  /** Equal for equal causes: a SQLSTATE, a code of the network, or a fixed text. */
  key: string;
  /** One line for the log, without host, user, password or data. */
  description: string;
}

export interface ConditionLogOptions {
  log: Log;
  describeCause(error: LoomError): Cause;
  /** Time without an occurrence after which a condition has ended. */
  quietMs?: number;
}

export type ConditionLog = ReturnType<typeof createConditionLog>;

interface Condition {
  code: string;
  cause: Cause;
  startedMs: number;
  lastMs: number;
  requests: number;
  timer: NodeJS.Timeout;
}

/**
 * Logs why requests fail: once when a condition begins, and once when it has ended. A line for each request would bury
 * the cause, and a full disk makes thousands of requests fail.
 */
export function createConditionLog({ log, describeCause, quietMs = limits.conditionQuietMs }: ConditionLogOptions) {
  const conditions = new Map<string, Condition>();

  function begin(name: string, error: LoomError, cause: Cause): void {
    if (conditions.size >= limits.maxConditions) return;
    const nowMs = performance.now();
    const timer = setTimeout(() => end(name), quietMs).unref();
    conditions.set(name, { code: error.code, cause, startedMs: nowMs, lastMs: nowMs, requests: 1, timer });
    log.warn({ code: error.code, cause: cause.key }, `requests fail with ${error.code}: ${cause.description}`);
  }

  function end(name: string): void {
    const condition = conditions.get(name);
    if (condition === undefined) return;
    conditions.delete(name);
    const { code, cause, requests, startedMs, lastMs } = condition;
    const durationMs = Math.round(lastMs - startedMs);
    log.info(
      { code, cause: cause.key, requests, durationMs },
      `no more requests fail with ${code}: ${requests} failed within ${durationMs} ms (${cause.description})`,
    );
  }

  return {
    /** Notes that a request failed with this error. */
    report: (error: LoomError): void => {
      const cause = describeCause(error);
      const name = `${error.code} ${cause.key}`;
      const condition = conditions.get(name);
      if (condition === undefined) {
        begin(name, error, cause);
        return;
      }
      condition.requests += 1;
      condition.lastMs = performance.now();
      condition.timer.refresh();
    },
    /** Forgets all conditions, and logs nothing more. */
    close: (): void => {
      for (const { timer } of conditions.values()) clearTimeout(timer);
      conditions.clear();
    },
  };
}
