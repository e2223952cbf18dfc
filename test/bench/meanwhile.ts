import { readFile } from 'node:fs/promises';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { timed } from './figures.ts';
import { TOKEN } from './server.ts';

/** Measurements by other clients while a node works. */
export interface Meanwhile<T> {
  answer: T;
  /** Duration of the work. */
  seconds: number;
  longestCommitSeconds: number;
  /** Latencies of `/ready`. */
  readySeconds: number[];
  /** p99 delay of this process's own event loop. Its measurements include that delay. */
  ownDelaySeconds: number;
}

const READY_PAUSE_MS = 10;
const DELAY_RESOLUTION_MS = 5;

/** Runs `work` while one client commits continuously and another one polls `/ready`. */
export async function meanwhile<T>(url: string, work: () => Promise<T>): Promise<Meanwhile<T>> {
  let done = false;
  const commitSeconds: number[] = [];
  const readySeconds: number[] = [];
  const commits = async (): Promise<void> => {
    while (!done) commitSeconds.push(await commit(url));
  };
  const polls = async (): Promise<void> => {
    while (!done) {
      readySeconds.push((await timed(() => ask(`${url}/ready`))).seconds);
      await sleep(READY_PAUSE_MS);
    }
  };
  const ownDelay = monitorEventLoopDelay({ resolution: DELAY_RESOLUTION_MS });
  ownDelay.enable();
  const others = [commits(), polls()];
  try {
    const { answer, seconds } = await timed(work);
    done = true;
    await Promise.all(others);
    const longestCommitSeconds = Math.max(...commitSeconds);
    const ownDelaySeconds = ownDelay.percentile(99) / 1e9 - DELAY_RESOLUTION_MS / 1e3;
    return { answer, seconds, longestCommitSeconds, readySeconds, ownDelaySeconds };
  } finally {
    done = true;
    ownDelay.disable();
    await Promise.allSettled(others);
  }
}

/** Puts one small document and returns the duration. */
export async function commit(url: string, name = 'committed-meanwhile'): Promise<number> {
  const { seconds } = await timed(() =>
    ask(`${url}/v1/documents/${encodeURIComponent(name)}`, {
      method: 'PUT',
      headers: { 'x-loom-admin-token': TOKEN, 'content-type': 'application/json' },
      body: `{"at":${Date.now()}}`,
    }),
  );
  return seconds;
}

/** Sends a request, and throws unless it succeeds. */
export async function ask(url: string, request?: RequestInit): Promise<void> {
  const answer = await fetch(url, request);
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}: ${text}`);
}

/** Returns the peak resident memory of a process, or undefined without /proc. */
export async function peakMemoryBytes(pid: number): Promise<number | undefined> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1];
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1024;
}
