import type { ObjectStore } from '../domain/object-store.ts';
import { isLoomError, LoomError } from '../errors.ts';

/**
 * Does some work on the store with a signal that aborts after `ms`. Then rejects with `store_unreachable`: the reason
 * of `AbortSignal.timeout` has no code, so a client would see an internal error, and the store would seem to be up.
 */
export async function withinDeadline<T>(
  { address }: Pick<ObjectStore, 'address'>,
  ms: number,
  signal: AbortSignal,
  work: (bounded: AbortSignal) => Promise<T>,
): Promise<T> {
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(tooSlow(address, ms)), ms);
  try {
    return await work(AbortSignal.any([signal, deadline.signal]));
  } catch (error) {
    if (deadline.signal.aborted && !signal.aborted && !isLoomError(error)) throw deadline.signal.reason;
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

function tooSlow(address: string, ms: number): LoomError {
  return new LoomError(
    'store_unreachable',
    `The store ${address} has not answered within ${ms / 1000} s. Check the network or the mount, and the service.`,
  );
}
