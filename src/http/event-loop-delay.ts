import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { EventLoopDelay } from '../domain/status.ts';

const WINDOW_MS = 60_000;

/** Sets the sampling interval. The histogram records the time between samples: for an idle loop, this value. */
const RESOLUTION_MS = 20;

/** Measures the delay of the event loop over one minute. A longer window would hide a problem that has just begun. */
export function watchEventLoop(): { delay(): EventLoopDelay; close(): void } {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  histogram.enable();
  let previous = toDelay(histogram);
  const timer = setInterval(() => {
    previous = toDelay(histogram);
    histogram.reset();
  }, WINDOW_MS);
  timer.unref();
  return {
    delay: () => (histogram.count === 0 ? previous : toDelay(histogram)),
    close: () => {
      clearInterval(timer);
      histogram.disable();
    },
  };
}

function toDelay(histogram: IntervalHistogram): EventLoopDelay {
  const toMs = (nanoseconds: number): number | null =>
    histogram.count === 0 ? null : Math.round(Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS) * 100) / 100;
  return {
    delay_mean_ms: toMs(histogram.mean),
    delay_p50_ms: toMs(histogram.percentile(50)),
    delay_p99_ms: toMs(histogram.percentile(99)),
    delay_max_ms: toMs(histogram.max),
  };
}
