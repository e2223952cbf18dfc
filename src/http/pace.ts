import { limits } from '../limits.ts';

/** Judges whether a client is too slow, from the time in which the node waited for it and the bytes that it moved. */
export interface Pace {
  /** Adds a sample. Returns true if the client moved fewer bytes in the last window than the minimum rate allows. */
  isTooSlow(waitedMs: number, movedBytes: number): boolean;
}

/** Says in an error or a log line which rate a client did not reach. */
export function describePace(windowMs: number): string {
  return `fewer than ${limits.minClientBytesPerSecond} bytes a second over ${windowMs / 1000} s`;
}

/** Number of samples in one window. More would judge sooner, at the cost of a timer that runs more often. */
export const SAMPLES_PER_WINDOW = 10;

/** Creates the judge of one body or connection. It says nothing before the node has waited for a whole window. */
export function createPace(windowMs: number): Pace {
  const samples: { waitedMs: number; movedBytes: number }[] = [];
  let waitedMs = 0;
  let movedBytes = 0;
  return {
    isTooSlow: (waited, moved) => {
      const last = samples.at(-1);
      if (last !== undefined && last.waitedMs + waited <= windowMs / SAMPLES_PER_WINDOW) {
        last.waitedMs += waited;
        last.movedBytes += moved;
      } else samples.push({ waitedMs: waited, movedBytes: moved });
      waitedMs += waited;
      movedBytes += moved;
      let oldest = samples[0];
      while (oldest !== undefined && waitedMs - oldest.waitedMs >= windowMs) {
        waitedMs -= oldest.waitedMs;
        movedBytes -= oldest.movedBytes;
        samples.shift();
        oldest = samples[0];
      }
      return waitedMs >= windowMs && movedBytes < (limits.minClientBytesPerSecond * waitedMs) / 1000;
    },
  };
}

/**
 * Limits the time of one sample. If the node itself was busy and samples late, the client's bytes may wait in the
 * socket.
 */
export function fairWaitMs(elapsedMs: number, sampleMs: number): number {
  return Math.min(elapsedMs, sampleMs * 2);
}
