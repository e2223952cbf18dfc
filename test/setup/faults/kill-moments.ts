import type { Random } from '../values/random.ts';

/** Draws moments at which to interrupt an operation, in ms after its beginning. */
export interface Moments {
  next(): number;
  /** Records whether the operation had taken effect when the last moment interrupted it. */
  learn(done: boolean): void;
}

/** Fractions of the estimated commit time: the spread of moments near it, and the correction after each. */
const NEAR = 0.12;
const STEP = 0.06;

/**
 * Draws every other moment from the whole operation and a little beyond. The moments between lie near the estimated
 * commit. The estimate moves earlier if the operation had taken effect, otherwise later. So both outcomes occur on any
 * machine.
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
