import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { countStreamedBytes } from '../../young-generation.ts';

/** Bounds the bytes of one turn. With 32 times as much, `/ready` was late in the transfer benchmark. */
const BYTES_PER_TURN = 256 * 1024;

/** Is called with the bytes of each chunk of a long stream, and awaited. */
export type Yielder = (bytes: number) => Promise<void> | undefined;

/**
 * Creates a function to call and await after each chunk of a long stream. Node reads up to 32 chunks of a fast socket
 * in one turn of the event loop. Processing them all at once would delay other requests.
 */
export function createYielder(): Yielder {
  return afterEach(BYTES_PER_TURN, () => nextTurn());
}

/** For so many turns after a turn in which other requests came, the node counts as busy. */
const BUSY_TURNS = 2;

/** Longer than a turn's work for a backup. With half of it, commits kept only half of their rate (`waits`). */
const PAUSE_MS = 8;

/** What a polite yielder waits with. */
export interface Waits {
  nextTurn(): Promise<unknown>;
  sleep(ms: number): Promise<unknown>;
}

const realWaits: Waits = { nextTurn: () => nextTurn(), sleep: (ms) => sleep(ms) };

/**
 * As `createYielder`, for a stream that can wait longer than a commit. While other requests use the database, the
 * stream also pauses, which leaves the processors of the node and of PostgreSQL to them. `countOthers` returns how many
 * there have been so far.
 */
export function createPoliteYielder(countOthers: () => number, waits = realWaits): Yielder {
  let others = countOthers();
  let turnsToPause = 0;
  return afterEach(BYTES_PER_TURN, async () => {
    await waits.nextTurn();
    const now = countOthers();
    turnsToPause = now > others ? BUSY_TURNS : turnsToPause - 1;
    others = now;
    if (turnsToPause > 0) await waits.sleep(PAUSE_MS);
  });
}

/** Calls `wait` each time that so many bytes have been processed. */
function afterEach(bytesPerTurn: number, wait: () => Promise<void>): Yielder {
  let processedBytes = 0;
  return (bytes) => {
    processedBytes += bytes;
    if (processedBytes < bytesPerTurn) return undefined;
    countStreamedBytes(processedBytes);
    processedBytes = 0;
    return wait();
  };
}
