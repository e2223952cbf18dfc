import { createRandom, type Random } from './values/random.ts';

/**
 * Sets how many cases each test runs, and which. Only this file reads these variables:
 *
 * - `LOOM_TEST_DEPTH`: `quick` (the default) runs a few cases of every kind; `full` is the depth of `npm run soak`.
 * - `LOOM_TEST_SEED`: repeats the random choices of an earlier run. Without it, each run draws a seed, and prints it if
 *   a test fails. So successive quick runs cover different cases.
 * - `LOOM_TEST_RUNS`: the number of rounds of `test/faults`, which `npm run soak -- faults --runs N` sets.
 */
export type Depth = 'quick' | 'full';

export const depth: Depth = readDepth(process.env.LOOM_TEST_DEPTH);

/** Whether this process runs tests. Only then Vitest has something to inject: benchmarks use the same helpers. */
export const isTestWorker = process.env.VITEST_WORKER_ID !== undefined;

/** Seeds every random choice of the run, in all of its processes. */
export const runSeed: number = readSeed(process.env.LOOM_TEST_SEED);

/** Number of rounds of `test/faults`; undefined for that of the run's depth. */
export const runRounds: number | undefined = readRuns(process.env.LOOM_TEST_RUNS);

/** Returns the count for this run's depth. */
export function rounds(counts: Record<Depth, number>): number {
  return counts[depth];
}

/**
 * Returns random numbers that depend only on the run's seed and `purpose`. So a test draws the same ones by itself and
 * in a full run.
 */
export function seededRandom(purpose: string): Random {
  return createRandom([...purpose].reduce((hash, unit) => Math.imul(hash ^ unit.charCodeAt(0), 0x01000193), runSeed));
}

/**
 * Returns all members at full depth. At quick depth, returns `perKind` members of each kind, from a random place.
 */
export function sampleByKind<T>(
  members: readonly T[],
  kindOf: (member: T, index: number) => string,
  { purpose, perKind = 1 }: { purpose: string; perKind?: number },
): T[] {
  if (depth === 'full') return [...members];
  const random = seededRandom(purpose);
  const byKind = new Map<string, T[]>();
  members.forEach((member, index) => {
    const kind = kindOf(member, index);
    byKind.set(kind, [...(byKind.get(kind) ?? []), member]);
  });
  return [...byKind.values()].flatMap((ofKind) => {
    const first = random.integer(0, ofKind.length - 1);
    return [...ofKind, ...ofKind].slice(first, first + Math.min(perKind, ofKind.length));
  });
}

/** Names the seed for the message of an assertion that depends on it. */
export const seedLabel = `LOOM_TEST_SEED=${runSeed}`;

export function readDepth(value = 'quick'): Depth {
  if (value === 'quick' || value === 'full') return value;
  throw new Error(`LOOM_TEST_DEPTH is "${value}", expected "quick" or "full".`);
}

function readSeed(value = ''): number {
  if (value === '') return Math.floor(Math.random() * 2 ** 31);
  const seed = Number(value);
  if (Number.isInteger(seed) && seed >= 0 && seed < 2 ** 31) return seed;
  throw new Error(`LOOM_TEST_SEED is "${value}", expected a whole number from 0 to ${2 ** 31 - 1}.`);
}

function readRuns(value = ''): number | undefined {
  if (value === '') return undefined;
  const runs = Number(value);
  if (Number.isInteger(runs) && runs > 0) return runs;
  throw new Error(`LOOM_TEST_RUNS is "${value}", expected a whole number above 0.`);
}
