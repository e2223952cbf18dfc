import { setTimeout as sleep } from 'node:timers/promises';
import { attempt } from './clients.ts';
import type { History } from './history.ts';
import type { Operation } from './operation.ts';
import { createSender } from './send.ts';
import type { SiteNode } from './site.ts';

/** What a client saw of a node: its `/ready`, and commits that it tried there without pause. */
export interface Sight {
  ready: { fromMs: number; toMs: number; status: number; reason: string; lagMs: number }[];
  commits: { fromMs: number; toMs: number; ok: boolean }[];
}

export interface Watch {
  sights: Map<SiteNode, Sight>;
  operations: Operation[];
  /** Resolves when all nodes are ready and commit, with the time that took from `sinceMs`. Rejects after `maxMs`. */
  untilRecovered(sinceMs: number, maxMs: number): Promise<number>;
  stop(): Promise<void>;
}

const POLL_MS = 100;
/** How long a node must have been ready without a break. */
const STEADY_MS = 500;
/** An answer of `/ready` that takes longer counts as none. */
const READY_TIMEOUT_MS = 3_000;
/** The watcher does not wait longer for one of its own commits, so that it soon sees that commits work again. */
const COMMIT_TIMEOUT_MS = 1_500;

export function startWatch(nodes: SiteNode[], history: History, faults: string[]): Watch {
  const sights = new Map<SiteNode, Sight>();
  const operations: Operation[] = [];
  let stopped = false;
  const lag = watchLag();
  const isStopped = (): boolean => stopped;
  const running = nodes.flatMap((node) => {
    const sight: Sight = { ready: [], commits: [] };
    sights.set(node, sight);
    return [
      pollReady(node, sight, { history, faults, lag, isStopped }),
      tryCommits(node, sight, { history, faults, operations, isStopped }),
    ];
  });
  return {
    sights,
    operations,
    untilRecovered: async (sinceMs, maxMs) => {
      for (;;) {
        const times = [...sights].map(([node, sight]) => recoveredAt(node, sight, sinceMs, history.now()));
        const took = Math.max(...times) - sinceMs;
        if (Number.isFinite(took)) return Math.max(0, took);
        if (history.now() - sinceMs > maxMs) {
          const slow = nodes.filter((_node, index) => !Number.isFinite(times[index])).map(({ name }) => name);
          throw new Error(`${slow} did not recover within ${maxMs} ms`);
        }
        await sleep(50);
      }
    },
    stop: async () => {
      stopped = true;
      await Promise.all(running);
      lag.stop();
    },
  };
}

/** Returns when a node was ready for good and committed; infinite if it is not yet. */
function recoveredAt({ away }: SiteNode, { ready, commits }: Sight, sinceMs: number, nowMs: number): number {
  const commit = commits.find(({ fromMs, ok }) => ok && fromMs >= sinceMs);
  const lastBad = ready.findLastIndex(({ status }) => status !== 200);
  const good = ready.slice(lastBad + 1).find(({ toMs }) => toMs >= sinceMs);
  const isAway = away.some(({ to }) => to > nowMs);
  if (commit === undefined || good === undefined || isAway || nowMs - good.toMs < STEADY_MS)
    return Number.POSITIVE_INFINITY;
  return Math.max(commit.toMs, good.toMs);
}

interface PollOptions {
  history: History;
  faults: string[];
  lag: { totalMs(): number };
  isStopped(): boolean;
}

async function pollReady({ name, url }: SiteNode, sight: Sight, { history, faults, lag, isStopped }: PollOptions) {
  const sender = createSender(history, faults, READY_TIMEOUT_MS);
  let before = '';
  while (!isStopped()) {
    const [fromMs, lagBefore] = [history.now(), lag.totalMs()];
    const answer = await sender.send(url, { method: 'GET', path: '/ready' });
    const reason = answer.status === 503 ? String(JSON.parse(answer.text).reason) : (answer.code ?? '');
    const toMs = history.now();
    sight.ready.push({ fromMs, toMs, status: answer.status, reason, lagMs: lag.totalMs() - lagBefore });
    const seen = `${answer.status} ${reason}`.trim();
    if (seen !== before) history.note(`${name} /ready: ${seen}`);
    before = seen;
    await sleep(Math.max(0, POLL_MS - (toMs - fromMs)));
  }
  sender.close();
}

interface CommitOptions {
  history: History;
  faults: string[];
  operations: Operation[];
  isStopped(): boolean;
}

async function tryCommits(node: SiteNode, sight: Sight, { history, faults, operations, isStopped }: CommitOptions) {
  const sender = createSender(history, faults, COMMIT_TIMEOUT_MS);
  for (let count = 1; !isStopped(); count += 1) {
    const id = `probe-${node.name}-${count}`;
    const fromMs = history.now();
    const changes: Operation['changes'] = [{ op: 'put', name: `probe-${node.name}`, value: { by: id } }];
    const common = {
      key: undefined,
      condition: undefined,
      beganMs: fromMs,
      endedMs: fromMs,
      attempts: [],
      receipts: [],
    };
    const operation: Operation = { id, changes, outcome: 'refused', ...common };
    operations.push(operation);
    await attempt(operation, node.url, sender, history);
    operation.endedMs = history.now();
    sight.commits.push({ fromMs, toMs: operation.endedMs, ok: operation.outcome === 'acknowledged' });
    await sleep(POLL_MS);
  }
  sender.close();
}

/** Measures how late this process is, so that its own load is not taken for that of a node. */
function watchLag() {
  const stepMs = 20;
  let total = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    total += Math.max(0, now - last - stepMs - 5);
    last = now;
  }, stepMs);
  return { totalMs: () => total, stop: () => clearInterval(timer) };
}

/** The longest of each kind, in ms. */
export interface Verdicts {
  /** Answer of `/ready` by a node that ran. */
  readyMs: number;
  /** 200 while no commit succeeded. */
  falselyReadyMs: number;
  /** 503 while commits succeeded. */
  falselyUnreadyMs: number;
  /** Requests of `/ready` without an answer by a node that ran. */
  unanswered: number;
}

/** Judges what a node said of itself. */
export function judge({ away }: Pick<SiteNode, 'away'>, { ready, commits }: Sight): Verdicts {
  const isAway = (from: number, to: number): boolean => away.some((one) => one.from <= to && from <= one.to);
  const asked = ready.filter(({ fromMs, toMs }) => !isAway(fromMs, toMs));
  const latencies = asked.map(({ fromMs, toMs, lagMs }) => Math.max(0, toMs - fromMs - lagMs));
  const runs = runsOf(ready.map((one) => ({ ...one, status: isAway(one.fromMs, one.toMs) ? 0 : one.status })));
  const falselyReady = runs
    .filter(({ status }) => status === 200)
    .map(({ fromMs, toMs }) => {
      const made = commits.filter(({ ok, toMs: at }) => ok && at >= fromMs && at <= toMs).map((one) => one.toMs);
      const times = [fromMs, ...made, toMs];
      return Math.max(...times.map((time, index) => time - (times[index - 1] ?? time)));
    });
  const falselyUnready = runs
    .filter(({ status, reason }) => status === 503 && reason !== 'draining')
    .map(({ fromMs, toMs }) => {
      const first = commits.find(({ ok, fromMs: from, toMs: to }) => ok && from >= fromMs && to <= toMs);
      return first === undefined ? 0 : toMs - first.toMs;
    });
  return {
    readyMs: Math.max(0, ...latencies),
    falselyReadyMs: Math.max(0, ...falselyReady),
    falselyUnreadyMs: Math.max(0, ...falselyUnready),
    unanswered: asked.filter(({ status }) => status === 0).length,
  };
}

interface Run {
  status: number;
  reason: string;
  fromMs: number;
  toMs: number;
}

/** Joins successive answers with the same status. */
function runsOf(ready: Omit<Sight['ready'][number], 'lagMs'>[]): Run[] {
  const runs: Run[] = [];
  for (const { status, reason, fromMs, toMs } of ready) {
    const last = runs.at(-1);
    if (last?.status === status) last.toMs = toMs;
    else runs.push({ status, reason, fromMs, toMs });
  }
  return runs;
}
