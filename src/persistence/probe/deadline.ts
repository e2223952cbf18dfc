/** Tells that a check had no answer in time. */
export class DeadlineError extends Error {}

/** Creates a promise that rejects after this time, unless it is cleared. */
export function createDeadline(afterMs: number): { passed: Promise<never>; clear(): void } {
  let timer: NodeJS.Timeout | undefined;
  const passed = new Promise<never>((_, reject) => {
    const fail = () => reject(new DeadlineError(`no answer within ${afterMs} ms`));
    // If the process was busy, the answer may be waiting in the socket. In each turn of the event loop, timers run
    // before I/O, and immediates after it.
    timer = setTimeout(() => setImmediate(() => setImmediate(fail)), afterMs);
  });
  passed.catch(() => undefined);
  return { passed, clear: () => clearTimeout(timer) };
}
