import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';

/** Bounds the bytes of one turn. With 32 times as much, `/ready` was late in the transfer benchmark. */
const BYTES_PER_TURN = 256 * 1024;

/**
 * Creates a function to call and await after each chunk of a long stream. Node reads up to 32 chunks of a fast socket
 * in one turn of the event loop. Processing them all at once would delay other requests.
 */
export function createYielder(): (bytes: number) => Promise<void> | undefined {
  return afterEach(BYTES_PER_TURN, () => nextTurn());
}

/** In a turn as long as this, the node worked for other requests. */
const BUSY_TURN_MS = 1;

/** For so many turns after a busy one, the node counts as busy. Requests come in bursts, such as batches of commits. */
const BUSY_TURNS = 8;

/** A few times as long as a turn's work for a backup. With half of it, commits kept only half of their rate (`waits`). */
const PAUSE_MS = 8;

/** What a polite yielder waits with, and its clock. */
export interface Waits {
  now(): number;
  nextTurn(): Promise<unknown>;
  sleep(ms: number): Promise<unknown>;
}

const realWaits: Waits = { now: () => performance.now(), nextTurn: () => nextTurn(), sleep: (ms) => sleep(ms) };

/**
 * As `createYielder`, for a stream that can wait longer than a commit. While the node is busy with other requests, the
 * stream also pauses, which leaves the processors of the node and of PostgreSQL to them.
 */
export function createPoliteYielder(waits = realWaits): (bytes: number) => Promise<void> | undefined {
  let turnsToPause = 0;
  return afterEach(BYTES_PER_TURN, async () => {
    const startedMs = waits.now();
    await waits.nextTurn();
    turnsToPause = waits.now() - startedMs >= BUSY_TURN_MS ? BUSY_TURNS : turnsToPause - 1;
    if (turnsToPause > 0) await waits.sleep(PAUSE_MS);
  });
}

/** Calls `wait` each time that so many bytes have been processed. */
function afterEach(bytesPerTurn: number, wait: () => Promise<void>): (bytes: number) => Promise<void> | undefined {
  let processedBytes = 0;
  return (bytes) => {
    processedBytes += bytes;
    if (processedBytes < bytesPerTurn) return undefined;
    processedBytes = 0;
    return wait();
  };
}
