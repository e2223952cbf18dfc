import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { RunLedger } from '../../src/domain/backup-run.ts';
import type { ObjectStore } from '../../src/domain/object-store.ts';
import { LoomError } from '../../src/errors.ts';
import { limits } from '../../src/limits.ts';
import { createLogger } from '../../src/log.ts';
import { withinDeadline } from '../../src/runs/deadline.ts';
import { createStoreWatch } from '../../src/runs/store/store-watch.ts';

const ADDRESS = 's3://bucket/prefix';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Never answers. Ends only with its signal, by an error without a code, as a stream does. */
function stall(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(new DOMException('This operation was aborted', 'AbortError')));
  });
}

/** Returns the settled outcome of some work after this time. */
async function after<T>(ms: number, work: Promise<T>): Promise<unknown> {
  const outcome = work.catch((error: unknown) => error);
  await vi.advanceTimersByTimeAsync(ms);
  return await outcome;
}

test('work that stands still ends with store_unreachable, which names the store and the time', async () => {
  const never = new AbortController().signal;
  expect(await after(5_000, withinDeadline({ address: ADDRESS }, 5_000, never, stall))).toMatchObject({
    code: 'store_unreachable',
    message: expect.stringContaining(`The store ${ADDRESS} has not answered within 5 s.`),
  });
});

test('work that ends otherwise keeps its own error, and that of its caller', async () => {
  const refused = new LoomError('store_refused', 'No.');
  const late = (signal: AbortSignal) => stall(signal).catch(() => Promise.reject(refused));
  expect(await after(5_000, withinDeadline({ address: ADDRESS }, 5_000, new AbortController().signal, late))).toBe(
    refused,
  );
  const closing = new AbortController();
  const aborted = withinDeadline({ address: ADDRESS }, 5_000, closing.signal, stall);
  closing.abort();
  expect(await after(5_000, aborted)).toMatchObject({ name: 'AbortError' });
  expect(
    await after(
      0,
      withinDeadline({ address: ADDRESS }, 5_000, closing.signal, async () => 'done'),
    ),
  ).toBe('done');
  expect(vi.getTimerCount()).toBe(0);
});

test.each([
  ['accepts requests and stalls', stall, 'store_unreachable'],
  ['fails in an unknown way', () => Promise.reject(new TypeError('a fault of the client')), 'store_failed'],
])('a store that was up and then %s is down at the end of its next check', async (_how, fails, code) => {
  const store = { address: ADDRESS, check: fails as ObjectStore['check'] } as ObjectStore;
  const ledger = { readNewestComplete: () => Promise.resolve(undefined) } as unknown as RunLedger;
  const watch = createStoreWatch({ store, ledger, stateKey: 'default', log: createLogger({ level: 'silent' }) });
  watch.noteSuccess({ kind: 'manual' });
  expect(watch.isUp()).toBe(true);
  watch.start();
  await vi.advanceTimersByTimeAsync(limits.storeCheckTimeoutMs);
  expect(watch.isUp()).toBe(false);
  expect(watch.fault()).toMatchObject({ code });
  await watch.close();
});
