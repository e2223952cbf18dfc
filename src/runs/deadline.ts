import type { ObjectStore } from '../domain/object-store.ts';
import { LoomError } from '../errors.ts';

/**
 * Returns a signal that aborts with `signal`, or after `ms` with `store_unreachable`. `AbortSignal.timeout` would abort
 * with an error that is no fault of the store, so a store that stands still would show in no status and no metric.
 */
export function withDeadline({ address }: Pick<ObjectStore, 'address'>, ms: number, signal?: AbortSignal): AbortSignal {
  const deadline = new AbortController();
  const timer = setTimeout(() => {
    const detail = `The store ${address} did not answer within ${ms / 1000} s. Check the network, the mount, or the service.`;
    deadline.abort(new LoomError('store_unreachable', detail));
  }, ms);
  timer.unref();
  return signal === undefined ? deadline.signal : AbortSignal.any([signal, deadline.signal]);
}
