import { setImmediate as nextTurn } from 'node:timers/promises';

/** Small enough that other requests get their turn in time. With 32 times as much, `/ready` was late in the transfer benchmark. */
const BYTES_PER_TURN = 256 * 1024;

/**
 * Returns a function to call after each processed piece of a long stream, and to await when it returns a promise. Node reads
 * up to 32 chunks of a fast socket in one turn of the event loop; processing them all at once would delay every other request.
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
