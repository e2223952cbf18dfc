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

/**
 * A patient stream takes small turns, which fit beside a batch of commits that PostgreSQL works on, and pauses for
 * twice the time of a turn. A turn may have waited for something else than a processor, so the pause is bounded.
 */
const PATIENT = { bytesPerTurn: 64 * 1024, pauseFactor: 2, minPauseMs: 2, maxPauseMs: 50 };

/** Longer than PostgreSQL works on as many bytes. With half of it, commits kept half of their rate beside inserts. */
const STATEMENT_PAUSE_MS = 8;

/** What a polite yielder waits with. */
export interface Waits {
  nextTurn(): Promise<unknown>;
  sleep(ms: number): Promise<unknown>;
  nowMs(): number;
}

const realWaits: Waits = { nextTurn: () => nextTurn(), sleep: (ms) => sleep(ms), nowMs: () => performance.now() };

/**
 * As `createYielder`, for a stream that can wait longer than a commit. While other requests use the database, the
 * stream also pauses, which leaves the processors of the node and of PostgreSQL to them. A patient stream, for which
 * nobody waits, pauses longer. `countOthers` returns how many there have been so far.
 */
export function createPoliteYielder(
  countOthers: () => number,
  { isPatient = false, waits = realWaits }: { isPatient?: boolean | undefined; waits?: Waits } = {},
): Yielder {
  let others = countOthers();
  let turnsToPause = 0;
  let resumedMs = waits.nowMs();
  const pauseMs = (): number => {
    if (!isPatient) return PAUSE_MS;
    const wantedMs = PATIENT.pauseFactor * (waits.nowMs() - resumedMs);
    return Math.min(Math.max(wantedMs, PATIENT.minPauseMs), PATIENT.maxPauseMs);
  };
  return afterEach(isPatient ? PATIENT.bytesPerTurn : BYTES_PER_TURN, async () => {
    await waits.nextTurn();
    const now = countOthers();
    turnsToPause = now > others ? BUSY_TURNS : turnsToPause - 1;
    others = now;
    if (turnsToPause > 0) await waits.sleep(pauseMs());
    resumedMs = waits.nowMs();
  });
}

/** How long `isShared` watches, and how many uses of other connections show more than probes and status requests. */
const WATCHED_MS = 200;
const FEW_USES = 15;

/** Resolves to whether commits or reads use the database all the time. */
export async function isShared(countOthers: () => number): Promise<boolean> {
  const before = countOthers();
  await sleep(WATCHED_MS);
  return countOthers() - before > FEW_USES;
}

/**
 * Returns an SQL condition, always true, that makes a long statement pause for each `BYTES_PER_TURN` of its rows, as
 * VACUUM does by its cost delay. `seq` numbers the rows, whose size is that of `value`.
 */
export function pausingCondition(seq: string, value: string): string {
  const rowsPerTurn = `greatest(1, ${BYTES_PER_TURN} / greatest(1, pg_column_size(${value})))`;
  return `case when ${seq} % ${rowsPerTurn} = 0 then pg_sleep(${STATEMENT_PAUSE_MS / 1000}) is not null else true end`;
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
