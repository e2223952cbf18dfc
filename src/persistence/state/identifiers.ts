import { randomBytes, randomUUID } from 'node:crypto';

/** Creates a UUID version 7 (RFC 9562 §5.7). It begins with the time, so the index of event ids grows at one end. */
export function createEventId(): string {
  const time = Date.now().toString(16).padStart(12, '0');
  // The variant and the random bits are those of version 4, which Node takes from a pool of random bytes.
  return `${time.slice(0, 8)}-${time.slice(8)}-7${randomUUID().slice(15)}`;
}

/** Creates an epoch for entity tags: 10 characters with about 60 random bits, against collisions. */
export function createEpoch(): string {
  return randomBytes(8).toString('base64url').replaceAll(/[-_]/g, 'x').slice(0, 10);
}
