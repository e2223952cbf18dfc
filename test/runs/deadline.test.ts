import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { withinDeadline } from '../../src/runs/deadline.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const store = { address: 's3://bucket/prefix' };

/** Never answers, and rejects when it is aborted. */
const stall = (signal: AbortSignal) =>
  new Promise<void>((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));

test('a deadline is a fault of the store; an earlier abort keeps its reason', async () => {
  const [closing, open] = [new AbortController(), new AbortController()];
  const aborted = withinDeadline(store, 30_000, closing.signal, stall).catch((error: unknown) => error);
  const late = withinDeadline(store, 30_000, open.signal, stall).catch((error: unknown) => error);
  vi.advanceTimersByTime(29_999);
  closing.abort('closing');
  vi.advanceTimersByTime(1);
  expect(await aborted).toBe('closing');
  expect(await late).toMatchObject({
    code: 'store_unreachable',
    message: expect.stringContaining('The store s3://bucket/prefix has not answered within 30 s.'),
  });
});
