import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { LoomError } from '../errors.ts';

const CHECK_BYTES = 64;

/** Writes a small object, reads it back, compares it and deletes it. */
export async function checkByRoundTrip(
  name: string,
  signal: AbortSignal,
  verbs: {
    put(name: string, content: Readable): Promise<unknown>;
    get(name: string): Promise<Readable>;
    delete(name: string): Promise<void>;
  },
): Promise<void> {
  const content = randomBytes(CHECK_BYTES);
  await verbs.put(name, Readable.from([content]));
  let found: Buffer;
  try {
    found = await buffer(await verbs.get(name));
  } catch (error) {
    await verbs.delete(name).catch(() => undefined);
    throw error;
  }
  await verbs.delete(name);
  signal.throwIfAborted();
  if (found.equals(content)) return;
  throw new LoomError(
    'store_failed',
    `The store returned other bytes than it received, for the check object ${JSON.stringify(name)}. Do not trust it: ` +
      'look for a proxy that changes content, or for a damaged disk.',
  );
}
