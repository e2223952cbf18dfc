import type { Random } from '../values/random.ts';

/** Draws moments at which to interrupt an operation, in ms after its beginning. */
export interface Moments {
  next(): number;
  /** Tells whether the operation that was interrupted at the last moment had taken effect. */
  learn(done: boolean): void;
}

/** How far a moment near the commit may lie from the estimated commit, and how far the estimate then moves. */
const NEAR = 0.12;
const STEP = 0.06;

/**
 * Draws every other moment from the whole operation and a little beyond. The moments between approach the commit:
 * earlier whenever the operation had taken effect, later whenever it had not. Both outcomes occur on a machine of any
 * speed.
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
