import { setImmediate as nextTurn } from 'node:timers/promises';

/** Little enough that others are answered between two pieces; with 32 times as much, `/ready` was late in the transfer benchmark. */
const TURN_BYTES = 256 * 1024;

/**
 * To be told of every piece of a long stream that was worked off, and awaited when it answers a promise. Node reads up to 32 chunks from
 * a fast socket in one turn of the event loop, and whoever works on each at once keeps everybody else waiting for all of them.
 */
export function createYielder(): (bytes: number) => Promise<void> | undefined {
  let worked = 0;
  return (bytes) => {
    worked += bytes;
    if (worked < TURN_BYTES) return undefined;
    worked = 0;
    return nextTurn();
  };
}
