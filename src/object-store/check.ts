import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { LoomError } from '../errors.ts';
import { createCheckName } from './names.ts';

const CHECK_BYTES = 64;

interface CheckVerbs {
  put(name: string, content: Readable, signal: AbortSignal): Promise<unknown>;
  get(name: string, signal: AbortSignal): Promise<Readable>;
  delete(name: string, signal: AbortSignal): Promise<void>;
}

/**
 * Creates the check of a store: it writes a small object, reads it back, compares it and deletes it. If the store does
 * not delete the object, the next checks only try again to delete it. So a store that refuses that is not filled.
 */
export function createRoundTripCheck(verbs: CheckVerbs): (signal: AbortSignal) => Promise<void> {
  let left: string | undefined;

  /** Keeps the name for the next check if the store does not delete the object. */
  async function remove(name: string, signal: AbortSignal): Promise<void> {
    try {
      await verbs.delete(name, signal);
    } catch (error) {
      left = name;
      throw error;
    }
    if (left === name) left = undefined;
  }

  // The first put of a run can check the store while the node does.
  return async (signal) => {
    if (left !== undefined) await remove(left, signal);
    const name = createCheckName();
    const content = randomBytes(CHECK_BYTES);
    await verbs.put(name, Readable.from([content]), signal);
    let found: Buffer;
    try {
      found = await buffer(await verbs.get(name, signal));
    } catch (error) {
      await remove(name, signal).catch(() => undefined);
      throw error;
    }
    await remove(name, signal);
    signal.throwIfAborted();
    if (found.equals(content)) return;
    throw new LoomError(
      'store_failed',
      `The store returned other bytes than it received, for the check object ${JSON.stringify(name)}. Do not trust it: ` +
        'look for a proxy that changes content, or for a damaged disk.',
    );
  };
}
