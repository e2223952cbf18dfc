import type { Random } from '../values/random.ts';

/** Moments of an operation at which to break it off, in ms after its beginning. */
export interface Moments {
  next(): number;
  /** Whether the operation broken off at the moment given last had been done all the same. */
  learn(done: boolean): void;
}

/** Of the moments that look for the commit, how far from where it was last they may lie, and how far that then moves. */
const NEAR = 0.12;
const STEP = 0.06;

/**
 * Every other moment lies anywhere in the operation and a little after it; those between look for its commit, by going
 * earlier whenever it had been done and later whenever it had not. So both ends are seen on a machine of any speed.
 */
export function createMoments(random: Random, spanMs: number): Moments {
  let commitMs = spanMs;
  let count = 0;
  let isNear = false;
  return {
    next: () => {
      isNear = count % 2 === 1;
      count += 1;
      if (!isNear) return random.fraction() * commitMs * 1.15;
      return Math.max(0, commitMs * (1 + (random.fraction() * 2 - 1) * NEAR));
    },
    learn: (done) => {
      if (isNear) commitMs = Math.max(5, commitMs * (done ? 1 - STEP : 1 + STEP));
    },
  };
}
