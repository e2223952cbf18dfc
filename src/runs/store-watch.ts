import { setTimeout as sleep } from 'node:timers/promises';
import type { RunKind } from '../domain/backup-run.ts';
import { isLoomError, type LoomError } from '../errors.ts';
import { limits } from '../limits.ts';
import type { Log } from '../log.ts';
import { withDeadline } from './deadline.ts';
import { assertSameStore, type IdentityParts } from './store-identity.ts';

export interface StoreWatch {
  start(): void;
  /** Notes an error of a run, if the store is at fault. */
  note(error: unknown): void;
  /** Notes a run that succeeded. One that wrote shows that the store is up; one that only read asks for a check. */
  noteSuccess(run: { kind: RunKind }): void;
  fault(): { code: string; detail: string; since: string } | null;
  /** Null before the first check. */
  isUp(): boolean | null;
  close(): Promise<void>;
}

/**
 * Tries the store at the start and from time to time, so that status shows a wrong setting, or another store than that
 * of the catalogue, before a run fails.
 */
export function createStoreWatch(parts: IdentityParts & { log: Log }): StoreWatch {
  const { store, log } = parts;
  const closing = new AbortController();
  let fault: { code: string; detail: string; since: string } | null = null;
  let isUp: boolean | null = null;
  let watching: Promise<void> | undefined;
  let wake = new AbortController();

  function setFault({ code, message }: LoomError): void {
    const isNew = fault?.code !== code;
    fault = { code, detail: message, since: fault?.since ?? new Date().toISOString() };
    isUp = false;
    if (isNew) log.error({ store: store.address, code }, `the backup store fails: ${message}`);
  }

  function setUp(): void {
    if (isUp !== true) log.info({ store: store.address }, 'the backup store can be written and read');
    fault = null;
    isUp = true;
  }

  /** Compares the id first, so that nothing is written into another store. Without the database, it cannot. */
  async function tryStore(signal: AbortSignal): Promise<void> {
    try {
      await assertSameStore(parts, signal);
    } catch (error) {
      if (isStoreFault(error)) throw error;
    }
    await store.check(signal);
  }

  async function check(): Promise<void> {
    try {
      await tryStore(withDeadline(store, limits.storeCheckTimeoutMs, closing.signal));
      setUp();
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
      const signal = AbortSignal.any([closing.signal, wake.signal]);
      await sleep(limits.storeRecheckMs, undefined, { signal }).catch(() => undefined);
      wake = new AbortController();
    }
  }

  return {
    start: () => {
      watching ??= watch();
    },
    note: (error) => {
      if (isStoreFault(error)) setFault(error);
    },
    noteSuccess: ({ kind }) => {
      if (kind !== 'drill') setUp();
      else if (isUp === false) wake.abort();
    },
    fault: () => fault,
    isUp: () => isUp,
    close: async () => {
      closing.abort();
      await watching;
    },
  };
}

function isStoreFault(error: unknown): error is LoomError {
  return isLoomError(error) && error.code.startsWith('store_');
}
