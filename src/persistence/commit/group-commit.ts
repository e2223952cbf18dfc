import { setTimeout as sleep } from 'node:timers/promises';
import type { CommitReceipt, CommitRequest } from '../../domain/commit.ts';
import { isLoomError, LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { type AttemptBounds, type CommitOutcome, type PreparedCommit, prepareCommit } from './batch.ts';

interface Waiting extends PreparedCommit {
  arrivedMs: number;
  /** Whether PostgreSQL may have received it. */
  sent: boolean;
  resolve(receipt: CommitReceipt): void;
  reject(error: unknown): void;
}

/** Describes the batch in flight. */
interface Flight {
  batch: Waiting[];
  /** The commits of the current attempt: the batch, or one of its commits. */
  attempt: Waiting[];
  /** Set when the node no longer waits for outcomes. */
  abandoned: boolean;
  /** The start of the first of the attempts in a row that did not get the lock of the state row, and their error. */
  busy: { sinceMs: number; error: unknown } | undefined;
}

export interface GroupCommitOptions {
  /** Commits a batch in one transaction, see `createCommitBatch`. */
  commitBatch(commits: PreparedCommit[], bounds: AttemptBounds): Promise<CommitOutcome[]>;
  createEventId(): string;
  /** Called after each committed batch. */
  onBatch?: ((batch: { commits: number; durationMs: number }) => void) | undefined;
  /** A monotonic clock, in milliseconds. */
  now?(): number;
  wait?(delayMs: number): Promise<unknown>;
}

/**
 * Collects the commits that arrive while a batch is in flight into the next batch: one flush to disk serves many
 * clients. With one batch in flight at a time, commits keep their order. Each is answered only after its transaction.
 */
export function createGroupCommit(options: GroupCommitOptions) {
  const queue: Waiting[] = [];
  let queuedBytes = 0;
  const flight: Flight = { batch: [], attempt: [], abandoned: false, busy: undefined };
  const { now = monotonicMs } = options;
  let closing = false;
  let running: Promise<void> | undefined;

  function submit(request: CommitRequest): Promise<CommitReceipt> {
    if (closing) return Promise.reject(shuttingDown());
    const prepared = prepareCommit(request, options.createEventId());
    if (queue.length >= limits.maxQueueCommits || queuedBytes + prepared.bytes > limits.maxQueueBytes) {
      const detail = `${queue.length} commits are already waiting.`;
      return Promise.reject(new LoomError('queue_full', detail, { retryAfterSeconds: 1 }));
    }
    return new Promise((resolve, reject) => {
      queue.push({ arrivedMs: now(), sent: false, resolve, reject, ...prepared });
      queuedBytes += prepared.bytes;
      running ??= run();
    });
  }

  async function run(): Promise<void> {
    // Wait for the other requests of this turn of the event loop.
    await new Promise(setImmediate);
    while (queue.length > 0) {
      const batch = takeBatch(queue);
      queuedBytes -= batch.reduce((sum, one) => sum + one.bytes, 0);
      flight.batch = batch;
      const left = await commitAll(batch, options, flight);
      flight.batch = [];
      if (flight.abandoned) break;
      queue.unshift(...left);
      queuedBytes += left.reduce((sum, one) => sum + one.bytes, 0);
    }
    running = undefined;
  }

  return {
    submit,
    /** Returns the number of commits that wait or are in flight. */
    depth: () => queue.length + flight.batch.length,
    /** Marks the batch in flight as sent. Call it just before sending. Throws `draining` if it is too late to send. */
    beforeSend: (): void => {
      if (flight.abandoned) throw shuttingDown();
      for (const one of flight.attempt) one.sent = true;
    },
    /**
     * Answers all accepted commits: `draining` if PostgreSQL cannot have received the commit, otherwise
     * `commit_outcome_unknown`. No commit is sent afterwards. Pauses between slices, so that answers leave the process.
     */
    abandon: async (): Promise<void> => {
      closing = true;
      flight.abandoned = true;
      queuedBytes = 0;
      const waiting = queue.splice(0);
      for (const one of flight.batch) one.reject(one.sent ? abandonedCommit() : shuttingDown());
      while (waiting.length > 0) {
        for (const one of waiting.splice(0, limits.maxBatchCommits)) one.reject(shuttingDown());
        await new Promise(setImmediate);
      }
    },
    /** Refuses new commits. Resolves when all accepted commits are answered. */
    close: async (): Promise<void> => {
      closing = true;
      await running;
    },
  };
}

/** Takes the oldest waiting commits: at least one, and no more than the limits of a batch allow. */
function takeBatch(queue: Waiting[]): Waiting[] {
  let bytes = 0;
  let count = 0;
  for (const one of queue) {
    bytes += one.bytes;
    if (count > 0 && (count >= limits.maxBatchCommits || bytes > limits.maxBatchBytes)) break;
    count += 1;
  }
  return queue.splice(0, count);
}

function shuttingDown(): LoomError {
  return new LoomError('draining', 'The node is shutting down.', { retryAfterSeconds: 1 });
}

function abandonedCommit(): LoomError {
  const detail = 'The node shut down before the database answered.';
  return new LoomError('commit_outcome_unknown', detail, { retryAfterSeconds: 1 });
}

/**
 * Answers every commit of the batch except those to send again, which it returns in their order: the deferred ones, and
 * those that can wait longer for the lock of the state row. Never rejects.
 */
async function commitAll(batch: Waiting[], options: GroupCommitOptions, flight: Flight): Promise<Waiting[]> {
  const { now = monotonicMs } = options;
  const startedMs = now();
  const attempt = refuseExpired(batch, flight, startedMs);
  if (attempt.length === 0) return [];
  flight.attempt = attempt;
  const lockTimeoutMs = Math.min(...attempt.map((one) => leftToLockMs(one, flight, startedMs)));
  try {
    const outcomes = await commitOrFindOut(attempt, lockTimeoutMs, options, flight);
    flight.busy = undefined;
    const deferred = attempt.filter((one, index) => !settle(one, outcomes[index]));
    for (const one of deferred) one.sent = false;
    const commits = attempt.length - deferred.length;
    if (commits > 0) options.onBatch?.({ commits, durationMs: now() - startedMs });
    return deferred;
  } catch (error) {
    const isLocked = isStateBusy(error) && now() - startedMs > lockTimeoutMs - limits.minCommitLockMs;
    flight.busy = isLocked ? { sinceMs: flight.busy?.sinceMs ?? startedMs, error } : undefined;
    if (isLocked && !flight.abandoned) {
      for (const one of attempt) one.sent = false;
      return refuseExpired(attempt, flight, now());
    }
    if (attempt.length > 1 && !flight.abandoned && isOneCommitsFault(error)) {
      // Nothing was committed. Send each commit alone, so that only the one at fault fails.
      for (const one of attempt) one.sent = false;
      for (const one of attempt) if (!flight.abandoned) await commitAlone(one, options, flight);
      return [];
    }
    for (const one of attempt) one.reject(error);
    return [];
  }
}

/** Answers the commits that have waited too long for the lock, and returns the others. */
function refuseExpired(batch: Waiting[], flight: Flight, nowMs: number): Waiting[] {
  return batch.filter((one) => {
    if (leftToLockMs(one, flight, nowMs) >= limits.minCommitLockMs) return true;
    one.reject(flight.busy?.error);
    return false;
  });
}

/**
 * Returns for how long a commit may still wait for the lock of the state row. The time behind a batch that did not get
 * it counts, because that batch was first in line.
 */
function leftToLockMs({ arrivedMs }: Waiting, { busy }: Flight, nowMs: number): number {
  const waitedMs = busy === undefined ? 0 : nowMs - Math.max(arrivedMs, busy.sinceMs);
  return limits.commitLockTimeoutMs - waitedMs;
}

/** Answers one commit. `loom_commit` defers a commit that is alone at most once, to have it sent in a transaction. */
async function commitAlone(one: Waiting, options: GroupCommitOptions, flight: Flight): Promise<void> {
  let deferred = await commitAll([one], options, flight);
  if (deferred.length > 0) deferred = await commitAll(deferred, options, flight);
  for (const left of deferred) left.reject(new Error('a commit was deferred twice'));
}

/** Counts the time monotonically: a jump of the wall clock must neither shorten nor lengthen a wait. */
const monotonicMs = (): number => performance.now();

/**
 * Commits the batch. If the answer is lost, sends the same batch again until the database reports the outcome.
 * `loom_commit` does not repeat a commit whose event id it finds.
 */
async function commitOrFindOut(
  batch: Waiting[],
  lockTimeoutMs: number,
  options: GroupCommitOptions,
  flight: Flight,
): Promise<CommitOutcome[]> {
  const { now = monotonicMs, wait = sleep } = options;
  const deadlineMs = now() + limits.commitTimeoutMs;
  let unknown: unknown;
  for (let delayMs = 50; ; delayMs = Math.min(delayMs * 2, 1_000)) {
    try {
      const timeoutMs = Math.max(MIN_ATTEMPT_MS, deadlineMs - now());
      return await options.commitBatch(batch, { timeoutMs, lockTimeoutMs });
    } catch (error) {
      const code = isLoomError(error) ? error.code : undefined;
      if (code === 'commit_outcome_unknown') unknown = error;
      if (flight.abandoned) throw error;
      // A refusal is final unless an earlier attempt remained unanswered.
      if (unknown === undefined) throw error;
      if (code === undefined || !leavesUnknown.has(code) || now() + delayMs > deadlineMs) throw unknown;
    }
    await wait(delayMs);
  }
}

/** Contains the codes after which the outcome of an earlier attempt stays unknown. That attempt may hold the lock. */
const leavesUnknown: ReadonlySet<string> = new Set(['commit_outcome_unknown', 'database_unavailable', 'state_busy']);

/** Leaves the last attempt time for one round trip. */
const MIN_ATTEMPT_MS = 1_000;

/** Answers the commit. Returns false if it was deferred. */
function settle(waiting: Waiting, outcome: CommitOutcome | undefined): boolean {
  if (outcome === undefined) waiting.reject(new Error('a batch returned fewer outcomes than commits'));
  else if ('deferred' in outcome) return false;
  else if ('receipt' in outcome) waiting.resolve(outcome.receipt);
  else waiting.reject(outcome.error);
  return true;
}

function isStateBusy(error: unknown): boolean {
  return isLoomError(error) && error.code === 'state_busy';
}

/** Returns whether the content of one commit may be at fault, rather than the server or the schema. */
function isOneCommitsFault(error: unknown): boolean {
  return !isLoomError(error) || error.code === 'internal' || error.code === 'state_inconsistent';
}
