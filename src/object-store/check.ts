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

  async function deleteLeft(signal: AbortSignal): Promise<void> {
    if (left !== undefined) await verbs.delete(left, signal);
    left = undefined;
  }

  return async (signal) => {
    await deleteLeft(signal);
    const name = createCheckName();
    const content = randomBytes(CHECK_BYTES);
    await verbs.put(name, Readable.from([content]), signal);
    left = name;
    let found: Buffer;
    try {
      found = await buffer(await verbs.get(name, signal));
    } catch (error) {
      await deleteLeft(signal).catch(() => undefined);
      throw error;
    }
    await deleteLeft(signal);
    signal.throwIfAborted();
    if (found.equals(content)) return;
    throw new LoomError(
      'store_failed',
      `The store returned other bytes than it received, for the check object ${JSON.stringify(name)}. Do not trust it: ` +
        'look for a proxy that changes content, or for a damaged disk.',
    );
  };
}
