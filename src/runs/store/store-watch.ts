import { setTimeout as sleep } from 'node:timers/promises';
import type { RunKind } from '../../domain/backup-run.ts';
import { isLoomError, LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { withinDeadline } from '../deadline.ts';
import type { CatalogueParts } from '../parts.ts';
import { lookForOthers, storeShared } from './store-claim.ts';
import { readStoreId } from './store-identity.ts';

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
export function createStoreWatch(parts: CatalogueParts): StoreWatch {
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
    const storeId = await unlessStoreFails(readStoreId(parts, signal));
    await store.check(signal);
    if (storeId === undefined) return;
    const claim = await unlessStoreFails(lookForOthers(parts, storeId, signal));
    if (claim?.isShared === true) throw storeShared(parts);
  }

  async function check(): Promise<void> {
    try {
      await withinDeadline(store, limits.storeCheckTimeoutMs, closing.signal, tryStore);
      setUp();
    } catch (error) {
      if (closing.signal.aborted) return;
      if (isLoomError(error)) return setFault(error);
      log.error({ err: error, store: store.address }, 'the backup store could not be checked');
      setFault(
        new LoomError('store_failed', `The store ${store.address} could not be checked. The log has the cause.`),
      );
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
      // A run succeeds whoever else uses the store.
      if (kind !== 'drill' && fault?.code !== 'store_shared') setUp();
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

/** Returns undefined if the database fails, and rejects if the store does. */
async function unlessStoreFails<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (isStoreFault(error)) throw error;
    return undefined;
  }
}

function isStoreFault(error: unknown): error is LoomError {
  return isLoomError(error) && error.code.startsWith('store_');
}
