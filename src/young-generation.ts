import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Keeps the memory of a backup below half of its goal; no slower than four times as much. */
const BYTES_PER_COLLECTION = 2 * 1024 * 1024;

type Collect = (options: { type: 'minor' }) => void;

let collect: Collect | undefined;
let waitingBytes = 0;

/**
 * Makes V8 create all objects in its young generation. When most objects of a place in the code survive a collection,
 * as those of the first chunk of a restore can, V8 creates all later ones in the old generation. There they would wait
 * for a full collection, together with all that they refer to: 50 MiB more in one restore of five.
 */
export function keepObjectsYoung(): void {
  setFlagsFromString('--no-allocation-site-pretenuring');
}

/**
 * Counts the bytes of long streams, and collects V8's young generation each time that so many have passed. For V8, a
 * buffer is a small object: it does not count the bytes, so tens of MiB of used buffers would wait for the next
 * collection.
 */
export function countStreamedBytes(bytes: number): void {
  waitingBytes += bytes;
  if (waitingBytes < BYTES_PER_COLLECTION) return;
  waitingBytes = 0;
  collect ??= findCollector();
  collect({ type: 'minor' });
}

/** Only a context that is created after this flag was set has the function. */
function findCollector(): Collect {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as Collect;
}
