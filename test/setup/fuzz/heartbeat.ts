/** Measures by how much the timers of this process are late, because the machine or the process is busy. */
export interface Heartbeat {
  /** Returns the sum of all lateness since the time, in milliseconds. */
  lateSince(sinceMs: number): number;
  stop(): void;
}

const everyMs = 20;

export function startHeartbeat(): Heartbeat {
  const beats: { atMs: number; lateMs: number }[] = [];
  let lastMs = performance.now();
  const timer = setInterval(() => {
    const nowMs = performance.now();
    const lateMs = nowMs - lastMs - everyMs;
    lastMs = nowMs;
    if (lateMs > 1) beats.push({ atMs: nowMs, lateMs });
    if (beats.length > 2_000) beats.splice(0, 1_000);
  }, everyMs);
  return {
    lateSince: (sinceMs) => beats.filter(({ atMs }) => atMs > sinceMs).reduce((sum, { lateMs }) => sum + lateMs, 0),
    stop: () => clearInterval(timer),
  };
}
