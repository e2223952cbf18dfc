import type { CommitReceipt, CommitRequest, SubmitCommit } from '../../domain/commit.ts';
import { isLoomError, LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { type CommitOutcome, type PreparedCommit, prepareCommit } from './batch.ts';

interface Waiting extends PreparedCommit {
  resolve(receipt: CommitReceipt): void;
  reject(error: unknown): void;
}

export interface GroupCommitOptions {
  /** Makes a batch in one transaction, see `commitBatch`. */
  commitBatch(commits: PreparedCommit[]): Promise<CommitOutcome[]>;
  createEventId(): string;
  /** Told of each batch that was made. */
  onBatch?(batch: { commits: number; durationMs: number }): void;
  now?(): number;
  wait?(delayMs: number): Promise<void>;
}

export interface GroupCommit {
  submit: SubmitCommit;
  /** Commits that wait, and those in flight. */
  depth(): number;
  /** Refuses new commits and resolves when all accepted ones are answered. */
  close(): Promise<void>;
}

/**
 * Puts what arrives while a batch is in flight into the next batch, so that one flush to disk serves many clients. One
 * batch is in flight at a time, hence commits are made in the order in which they came. Each is answered only after its
 * transaction has committed.
 */
export function createGroupCommit(options: GroupCommitOptions): GroupCommit {
  const queue: Waiting[] = [];
  let queuedBytes = 0;
  let inFlight = 0;
  let closing = false;
  let running: Promise<void> | undefined;

  function submit(request: CommitRequest): Promise<CommitReceipt> {
    if (closing)
      return Promise.reject(new LoomError('draining', 'The node is shutting down.', { retryAfterSeconds: 1 }));
    const prepared = prepareCommit(request, options.createEventId());
    if (queue.length >= limits.maxQueueCommits || queuedBytes + prepared.bytes > limits.maxQueueBytes) {
      return Promise.reject(queueFull(queue.length));
    }
    return new Promise((resolve, reject) => {
      queue.push({ ...prepared, resolve, reject });
      queuedBytes += prepared.bytes;
      running ??= run();
    });
  }

  async function run(): Promise<void> {
    // Requests that arrived in the same turn of the event loop belong into the same batch.
    await new Promise(setImmediate);
    while (queue.length > 0) {
      const batch = takeBatch(queue);
      queuedBytes -= batch.reduce((sum, one) => sum + one.bytes, 0);
      inFlight = batch.length;
      await commitAll(batch, options);
      inFlight = 0;
    }
    running = undefined;
  }

  return {
    submit,
    depth: () => queue.length + inFlight,
    close: async () => {
      closing = true;
      await running;
    },
  };
}

/** The oldest waiting commits, as many as one batch may hold, and at least one. */
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

/** Answers every commit of the batch; never rejects. */
async function commitAll(batch: Waiting[], options: GroupCommitOptions): Promise<void> {
  const now = options.now ?? Date.now;
  const startedMs = now();
  try {
    const outcomes = await commitOrFindOut(batch, options);
    options.onBatch?.({ commits: batch.length, durationMs: now() - startedMs });
    batch.forEach((one, index) => {
      settle(one, outcomes[index]);
    });
  } catch (error) {
    if (batch.length > 1 && isOneCommitsFault(error)) {
      // Nothing of the batch was made. Alone, only the commit at fault fails.
      for (const one of batch) await commitAll([one], options);
      return;
    }
    for (const one of batch) one.reject(error);
  }
}

/**
 * When the answer was lost, sends the same batch again until the database says what became of it: a commit that was made
 * is found by its event id and not made twice.
 */
async function commitOrFindOut(batch: Waiting[], options: GroupCommitOptions): Promise<CommitOutcome[]> {
  const now = options.now ?? Date.now;
  const wait = options.wait ?? waitFor;
  const deadlineMs = now() + limits.commitTimeoutMs;
  let unknown: unknown;
  for (let delayMs = 50; ; delayMs = Math.min(delayMs * 2, 1_000)) {
    try {
      return await options.commitBatch(batch);
    } catch (error) {
      if (isOutcomeUnknown(error)) unknown = error;
      const mayTellLater = isOutcomeUnknown(error) || (isLoomError(error) && error.code === 'database_unavailable');
      // A refusal without an unanswered attempt before it is final: nothing was made.
      if (unknown === undefined) throw error;
      if (!mayTellLater || now() + delayMs > deadlineMs) throw unknown;
    }
    await wait(delayMs);
  }
}

function settle(waiting: Waiting, outcome: CommitOutcome | undefined): void {
  if (outcome === undefined) waiting.reject(new Error('a batch answered fewer outcomes than commits'));
  else if ('receipt' in outcome) waiting.resolve(outcome.receipt);
  else waiting.reject(outcome.error);
}

function isOutcomeUnknown(error: unknown): boolean {
  return isLoomError(error) && error.code === 'commit_outcome_unknown';
}

/** What PostgreSQL refuses for its content, not for the state of the server or of the schema. */
function isOneCommitsFault(error: unknown): boolean {
  return !isLoomError(error) || error.code === 'internal';
}

function queueFull(waiting: number): LoomError {
  return new LoomError('queue_full', `${waiting} commits are waiting already.`, { retryAfterSeconds: 1 });
}

function waitFor(delayMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, delayMs));
}
