import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { RunLedger } from '../../src/domain/backup-run.ts';
import type { ObjectStore } from '../../src/domain/object-store.ts';
import { limits } from '../../src/limits.ts';
import { createLogger } from '../../src/log.ts';
import { withDeadline } from '../../src/runs/deadline.ts';
import { createStoreWatch } from '../../src/runs/store-watch.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const store = { address: 's3://bucket/prefix' } as ObjectStore;

test('a deadline is a fault of the store; an earlier abort keeps its reason', () => {
  const closing = new AbortController();
  const [late, aborted] = [withDeadline(store, 30_000, closing.signal), withDeadline(store, 30_000)];
  vi.advanceTimersByTime(29_999);
  expect([late.aborted, aborted.aborted]).toEqual([false, false]);
  closing.abort('closing');
  vi.advanceTimersByTime(1);
  expect(late.reason).toBe('closing');
  expect(aborted.reason).toMatchObject({
    code: 'store_unreachable',
    message: expect.stringContaining('The store s3://bucket/prefix did not answer within 30 s.'),
  });
});

test('a store that accepts a request and never answers counts as unreachable', async () => {
  const check = (signal: AbortSignal) =>
    new Promise<void>((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  const ledger = { readNewestComplete: async () => undefined } as Partial<RunLedger> as RunLedger;
  const log = createLogger({ level: 'silent' });
  const watch = createStoreWatch({ store: { ...store, check }, ledger, stateKey: 'default', log });
  watch.start();
  await vi.advanceTimersByTimeAsync(limits.storeCheckTimeoutMs);
  expect([watch.isUp(), watch.fault()?.code]).toEqual([false, 'store_unreachable']);
  await watch.close();
});
