import { setTimeout as sleep } from 'node:timers/promises';
import type { ObjectStore } from '../domain/object-store.ts';
import { isLoomError, type LoomError } from '../errors.ts';
import { limits } from '../limits.ts';
import type { Log } from '../log.ts';

export interface StoreWatch {
  start(): void;
  /** Notes an error of a run, if the store is at fault. */
  note(error: unknown): void;
  fault(): { code: string; detail: string; since: string } | null;
  /** Null before the first check. */
  isUp(): boolean | null;
  close(): Promise<void>;
}

/** Tries the store at the start and from time to time, so that status shows a wrong setting before a run fails. */
export function createStoreWatch({ store, log }: { store: ObjectStore; log: Log }): StoreWatch {
  const closing = new AbortController();
  let fault: { code: string; detail: string; since: string } | null = null;
  let isUp: boolean | null = null;
  let watching: Promise<void> | undefined;

  function setFault({ code, message }: LoomError): void {
    const isNew = fault?.code !== code;
    fault = { code, detail: message, since: fault?.since ?? new Date().toISOString() };
    isUp = false;
    if (isNew) log.error({ store: store.address, code }, `the backup store fails: ${message}`);
  }

  async function check(): Promise<void> {
    try {
      await store.check(AbortSignal.any([closing.signal, AbortSignal.timeout(limits.storeCheckTimeoutMs)]));
      if (isUp !== true) log.info({ store: store.address }, 'the backup store can be written and read');
      fault = null;
      isUp = true;
    } catch (error) {
      if (closing.signal.aborted) return;
      if (isLoomError(error)) setFault(error);
      else log.error({ err: error, store: store.address }, 'the backup store could not be checked');
    }
  }

  async function watch(): Promise<void> {
    let checkedMs = Number.NEGATIVE_INFINITY;
    while (!closing.signal.aborted) {
      // A run may have found a fault since the last look.
      if (isUp !== true || performance.now() - checkedMs >= limits.storeCheckMs) {
        await check();
        checkedMs = performance.now();
      }
      await sleep(limits.storeRecheckMs, undefined, { signal: closing.signal }).catch(() => undefined);
    }
  }

  return {
    start: () => {
      watching ??= watch();
    },
    note: (error) => {
      if (isLoomError(error) && error.code.startsWith('store_')) setFault(error);
    },
    fault: () => fault,
    isUp: () => isUp,
    close: async () => {
      closing.abort();
      await watching;
    },
  };
}
