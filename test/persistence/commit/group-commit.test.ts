import { describe, expect, it } from 'vitest';
import type { CommitReceipt, CommitRequest } from '../../../src/domain/commit.ts';
import { LoomError } from '../../../src/errors.ts';
import { limits } from '../../../src/limits.ts';
import type { AttemptBounds, CommitOutcome, PreparedCommit } from '../../../src/persistence/commit/batch.ts';
import { createGroupCommit } from '../../../src/persistence/commit/group-commit.ts';
import { outcomeOf, tally } from '../../setup/node/nodes.ts';

interface Sent {
  names: string[];
  eventIds: string[];
  timeoutMs: number;
  lockTimeoutMs: number;
  answer(outcomes?: CommitOutcome[]): void;
  fail(error: unknown): void;
}

function put(name: string, json = '1'): CommitRequest {
  return { action: 'document.put', actor: 'client', requestId: 'test', changes: [{ op: 'put', name, json }] };
}

function receipt(eventId: string): CommitReceipt {
  return { revision: 1, epoch: 'e', eventId, created: false, replayed: false };
}

/** Creates a group commit whose batches the test answers itself. Its clock advances only during waits. */
function start() {
  const batches: Sent[] = [];
  const arrivals: ((sent: Sent) => void)[] = [];
  const made: number[] = [];
  let nowMs = 0;
  let ids = 0;
  const commitBatch = (commits: PreparedCommit[], bounds: AttemptBounds): Promise<CommitOutcome[]> =>
    new Promise((resolve, reject) => {
      const sent: Sent = {
        names: commits.map((one) => one.request.changes[0]?.name ?? ''),
        eventIds: commits.map((one) => one.eventId),
        ...bounds,
        answer: (outcomes = commits.map(({ eventId }) => ({ receipt: receipt(eventId) }))) => resolve(outcomes),
        fail: reject,
      };
      const arrival = arrivals.shift();
      if (arrival === undefined) batches.push(sent);
      else arrival(sent);
    });
  const group = createGroupCommit({
    commitBatch,
    createEventId: () => `event-${++ids}`,
    onBatch: ({ commits }) => made.push(commits),
    now: () => nowMs,
    wait: (delayMs) => {
      nowMs += delayMs;
      return Promise.resolve();
    },
  });
  const next = (): Promise<Sent> => {
    const batch = batches.shift();
    return batch === undefined ? new Promise((resolve) => arrivals.push(resolve)) : Promise.resolve(batch);
  };
  const settled = () => new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));
  return { group, next, batches, made, settled, passMs: (ms: number) => (nowMs += ms) };
}

const unknown = () => new LoomError('commit_outcome_unknown', 'the connection broke');
const poisoned = () => new LoomError('internal', 'refused for its content');

describe('group commit', () => {
  it('puts the commits of one turn into one batch and later ones into the next, in order', async () => {
    const { group, next, batches, made, settled } = start();
    const answers = ['a', 'b'].map((name) => group.submit(put(name)));
    const first = await next();
    expect(first.names).toEqual(['a', 'b']);
    answers.push(...['c', 'd', 'e'].map((name) => group.submit(put(name))));
    await settled();
    expect(batches).toEqual([]);
    expect(group.depth()).toBe(5);
    first.answer();
    const second = await next();
    expect(second.names).toEqual(['c', 'd', 'e']);
    second.answer();
    expect((await Promise.all(answers)).map(({ eventId }) => eventId)).toEqual(
      [1, 2, 3, 4, 5].map((n) => `event-${n}`),
    );
    expect(group.depth()).toBe(0);
    expect(made).toEqual([2, 3]);
  });

  it('answers no commit before its batch is committed', async () => {
    const { group, next, settled } = start();
    let answered = false;
    const answer = group.submit(put('a')).then(() => {
      answered = true;
    });
    const batch = await next();
    await settled();
    expect(answered).toBe(false);
    batch.answer();
    await answer;
  });

  it('sends deferred commits again, before those that came later', async () => {
    const { group, next, made, settled } = start();
    const answers = ['a', 'b', 'c'].map((name) => group.submit(put(name)));
    const first = await next();
    answers.push(group.submit(put('d')));
    first.answer([{ receipt: receipt('event-1') }, { deferred: true }, { deferred: true }]);
    const second = await next();
    expect(second.names).toEqual(['b', 'c', 'd']);
    expect(second.eventIds).toEqual(['event-2', 'event-3', 'event-4']);
    expect(group.depth()).toBe(3);
    await settled();
    second.answer();
    expect(tally(await Promise.all(answers.map(outcomeOf)))).toEqual({ made: 4 });
    expect(made).toEqual([1, 3]);
  });

  it('sends a deferred commit again when commits are sent alone', async () => {
    const { group, next } = start();
    const answers = ['a', 'b'].map((name) => outcomeOf(group.submit(put(name))));
    (await next()).fail(poisoned());
    const alone = await next();
    expect(alone.names).toEqual(['a']);
    alone.answer([{ deferred: true }]);
    const again = await next();
    expect(again.names).toEqual(['a']);
    again.answer();
    (await next()).answer();
    expect(await Promise.all(answers)).toEqual(['made', 'made']);
  });

  it('bounds a batch in commits', async () => {
    const { group, next } = start();
    const answers = Array.from({ length: limits.maxBatchCommits + 1 }, (_, index) => group.submit(put(`${index}`)));
    const first = await next();
    expect(first.names).toHaveLength(limits.maxBatchCommits);
    first.answer();
    (await next()).answer();
    await Promise.all(answers);
  });

  it('bounds a batch in bytes, and sends a larger commit alone', async () => {
    const { group, next } = start();
    const half = JSON.stringify('x'.repeat(limits.maxBatchBytes / 2));
    const answers = [put('a', half), put('b', half), put('c', half.repeat(3)), put('d')].map(group.submit);
    for (const names of [['a'], ['b'], ['c'], ['d']]) {
      const batch = await next();
      expect(batch.names).toEqual(names);
      batch.answer();
    }
    await Promise.all(answers);
  });

  it('refuses commits above the queue’s limits of commits and bytes, and accepts them again when there is room', async () => {
    const { group, next } = start();
    const answers = [group.submit(put('first'))];
    const first = await next();
    for (let index = 0; index < limits.maxQueueCommits; index += 1) answers.push(group.submit(put(`${index}`)));
    await expect(group.submit(put('over'))).rejects.toMatchObject({ code: 'queue_full', retryAfterSeconds: 1 });
    first.answer();
    const second = await next();
    answers.push(group.submit(put('room')));
    second.answer();
    for (let left = answers.length - 1 - limits.maxBatchCommits; left > 0; left -= limits.maxBatchCommits)
      (await next()).answer();
    await Promise.all(answers);

    const third = JSON.stringify('x'.repeat(limits.maxQueueBytes / 3));
    const large = [put('a', third), put('b', third)].map(group.submit);
    expect(await outcomeOf(group.submit(put('c', third)))).toBe('queue_full');
    (await next()).answer();
    (await next()).answer();
    await Promise.all(large);
  });

  it('gives each commit its own outcome', async () => {
    const { group, next } = start();
    const outcomes = ['a', 'b', 'c'].map((name) => outcomeOf(group.submit(put(name))));
    const refused = new LoomError('precondition_failed', 'another was first');
    (await next()).answer([{ receipt: receipt('1') }, { error: refused }, { receipt: receipt('3') }]);
    expect(await Promise.all(outcomes)).toEqual(['made', 'precondition_failed', 'made']);
  });

  it('sends a batch with an unknown outcome again, unchanged, until the database answers', async () => {
    const { group, next } = start();
    const answers = ['a', 'b'].map((name) => group.submit(put(name)));
    const first = await next();
    first.fail(unknown());
    const second = await next();
    second.fail(new LoomError('database_unavailable', 'still away'));
    const third = await next();
    third.fail(unknown());
    const fourth = await next();
    for (const again of [second, third, fourth]) expect(again.eventIds).toEqual(first.eventIds);
    fourth.answer();
    expect((await Promise.all(answers)).map(({ eventId }) => eventId)).toEqual(first.eventIds);
  });

  it('sends a batch with an unknown outcome again while the earlier attempt holds the lock', async () => {
    const { group, next } = start();
    const outcome = outcomeOf(group.submit(put('a')));
    (await next()).fail(unknown());
    (await next()).fail(new LoomError('state_busy', 'the first attempt holds the lock'));
    (await next()).answer();
    expect(await outcome).toBe('made');
  });

  it('gives each attempt only the time that is left of the first', async () => {
    const { group, next, passMs } = start();
    const outcome = outcomeOf(group.submit(put('a')));
    const first = await next();
    expect(first.timeoutMs).toBe(limits.commitTimeoutMs);
    passMs(limits.commitTimeoutMs - 5_000);
    first.fail(unknown());
    const second = await next();
    expect(second.timeoutMs).toBe(5_000 - 50);
    second.answer();
    expect(await outcome).toBe('made');
  });

  it('reports an unknown outcome if the database does not answer in time', async () => {
    const { group, next, batches, settled, passMs } = start();
    const outcome = outcomeOf(group.submit(put('a')));
    (await next()).fail(unknown());
    const second = await next();
    passMs(limits.commitTimeoutMs);
    second.fail(new LoomError('database_unavailable', 'still away'));
    expect(await outcome).toBe('commit_outcome_unknown');
    await settled();
    expect(batches).toEqual([]);
  });

  it.each(['database_unavailable', 'state_busy', 'schema_ahead'] as const)(
    'does not send a batch again that was certainly not committed: %s',
    async (code) => {
      const { group, next, batches, settled } = start();
      const outcomes = ['a', 'b'].map((name) => outcomeOf(group.submit(put(name))));
      (await next()).fail(new LoomError(code, 'refused'));
      expect(await Promise.all(outcomes)).toEqual([code, code]);
      await settled();
      expect(batches).toEqual([]);
      const after = group.submit(put('c'));
      (await next()).answer();
      await after;
    },
  );

  it('a commit waits for the lock no longer than the limit, counted from its arrival and over several batches', async () => {
    const { group, next, settled, batches, passMs } = start();
    const total = limits.commitLockTimeoutMs;
    const locked = () => new LoomError('state_busy', 'another transaction holds the lock');
    const outcomes = [outcomeOf(group.submit(put('a')))];
    const first = await next();
    expect(first.lockTimeoutMs).toBe(total);
    passMs(100);
    outcomes.push(outcomeOf(group.submit(put('b'))));
    passMs(4_900);
    outcomes.push(outcomeOf(group.submit(put('c'))));
    passMs(total - 5_000);
    first.fail(locked());
    expect(await Promise.all(outcomes.slice(0, 2))).toEqual(['state_busy', 'state_busy']);
    const second = await next();
    expect([second.names, second.lockTimeoutMs]).toEqual([['c'], total - 5_000]);
    outcomes.push(outcomeOf(group.submit(put('d'))));
    passMs(2_000);
    outcomes.push(outcomeOf(group.submit(put('e'))));
    passMs(total - 7_000);
    second.fail(locked());
    expect(await outcomes[2]).toBe('state_busy');
    const third = await next();
    // Nothing is lost of the commits that can still wait.
    expect([third.names, third.lockTimeoutMs]).toEqual([['d', 'e'], 5_000]);
    third.answer();
    expect(await Promise.all(outcomes.slice(3))).toEqual(['made', 'made']);
    // With the lock once got, the next wait is a new one, however long the commit has been in the queue.
    const after = group.submit(put('f'));
    const fourth = await next();
    passMs(total);
    const last = group.submit(put('g'));
    passMs(total);
    fourth.answer();
    const fifth = await next();
    expect(fifth.lockTimeoutMs).toBe(total);
    fifth.answer();
    await Promise.all([after, last]);
    await settled();
    expect(batches).toEqual([]);
  });

  it('sends a batch again in its order when only some of its commits can wait longer', async () => {
    const { group, next, passMs } = start();
    const locked = new LoomError('state_busy', 'another transaction holds the lock');
    const outcomes = [outcomeOf(group.submit(put('a')))];
    const first = await next();
    passMs(4_000);
    outcomes.push(...['b', 'c'].map((name) => outcomeOf(group.submit(put(name)))));
    passMs(3_000);
    outcomes.push(outcomeOf(group.submit(put('d'))));
    passMs(3_000);
    first.fail(locked);
    const second = await next();
    expect([second.names, second.lockTimeoutMs]).toEqual([['b', 'c', 'd'], 4_000]);
    passMs(1_000);
    outcomes.push(outcomeOf(group.submit(put('e'))));
    passMs(3_000);
    second.fail(locked);
    const third = await next();
    expect([third.names, third.lockTimeoutMs]).toEqual([['d', 'e'], 3_000]);
    expect(third.eventIds[0]).toBe(second.eventIds[2]);
    third.answer();
    expect(await Promise.all(outcomes)).toEqual(['state_busy', 'state_busy', 'state_busy', 'made', 'made']);
  });

  it('splits a batch that fails because of one commit: only that commit fails, and the order is kept', async () => {
    const { group, next } = start();
    const outcomes = ['a', 'poison', 'b'].map((name) => outcomeOf(group.submit(put(name))));
    (await next()).fail(poisoned());
    const sent: string[] = [];
    for (let alone = 0; alone < 3; alone += 1) {
      const { names, answer, fail } = await next();
      sent.push(...names);
      if (names[0] === 'poison') fail(poisoned());
      else answer();
    }
    expect(sent).toEqual(['a', 'poison', 'b']);
    expect(await Promise.all(outcomes)).toEqual(['made', 'internal', 'made']);
  });

  it('answers all accepted commits when it closes, and refuses the rest', async () => {
    const { group, next, settled } = start();
    const accepted = ['a', 'b'].map((name) => outcomeOf(group.submit(put(name))));
    const first = await next();
    accepted.push(outcomeOf(group.submit(put('c'))));
    let closed = false;
    const closing = group.close().then(() => {
      closed = true;
    });
    expect(await outcomeOf(group.submit(put('late')))).toBe('draining');
    first.answer();
    const second = await next();
    await settled();
    expect(closed).toBe(false);
    second.answer();
    await closing;
    expect(tally(await Promise.all(accepted))).toEqual({ made: 3 });
    await group.close();
  });
});
