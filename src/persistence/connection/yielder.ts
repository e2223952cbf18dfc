import { setImmediate as nextTurn } from 'node:timers/promises';

/** Bounds the bytes of one turn. With 32 times as much, `/ready` was late in the transfer benchmark. */
const BYTES_PER_TURN = 256 * 1024;

/**
 * Creates a function to call and await after each chunk of a long stream. Node reads up to 32 chunks of a fast socket
 * in one turn of the event loop. Processing them all at once would delay other requests.
 */
export function createYielder(): (bytes: number) => Promise<void> | undefined {
  let processedBytes = 0;
  return (bytes) => {
    processedBytes += bytes;
    if (processedBytes < BYTES_PER_TURN) return undefined;
    processedBytes = 0;
    return nextTurn();
  };
}
