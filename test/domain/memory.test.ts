import { describe, expect, test } from 'vitest';
import { createMemoryBudget } from '../../src/domain/memory.ts';
import { limits } from '../../src/limits.ts';

const MiB = 2 ** 20;

function createBudget(more: { fastBytesPerSecond?: number } = {}) {
  let nowMs = 0;
  const options = { purpose: 'request bodies', maxBytes: 100, minHoldMs: 10, now: () => nowMs, ...more };
  const budget = createMemoryBudget(options);
  return { budget, pass: (ms: number) => (nowMs += ms) };
}

/** Opens a share that can be taken back, and records whether it was. */
function openReclaimable(budget: ReturnType<typeof createBudget>['budget'], bytes: number, movedBytes = 0) {
  const share = budget.open();
  const lost: string[] = [];
  share.makeReclaimable((error) => lost.push(error.code));
  share.countMoved(movedBytes);
  share.resize(bytes);
  return { share, lost };
}

const resize = (share: { resize(bytes: number): void }, bytes: number) => () => share.resize(bytes);

describe('a budget of memory', () => {
  test('refuses what does not fit, says so, and has room again when a share is closed', () => {
    const { budget } = createBudget();
    const [one, two] = [budget.open(), budget.open()];
    one.resize(60);
    expect(resize(two, 41)).toThrow('holds 60 of at most 100 bytes of request bodies');
    two.resize(40);
    expect(resize(two, 41)).toThrow(expect.objectContaining({ code: 'node_busy', retryAfterSeconds: 1 }));
    expect(budget.usedBytes()).toBe(100);
    one.close();
    one.close();
    two.resize(100);
    two.resize(1);
    expect(budget.usedBytes()).toBe(1);
    two.resize(1.5 * 3);
    expect(budget.usedBytes()).toBe(5);
    two.close();
    expect(budget.usedBytes()).toBe(0);
  });

  test('takes back the share with the most bytes for the least progress, and only after a while', () => {
    const { budget, pass } = createBudget();
    const fast = openReclaimable(budget, 50, 50_000);
    const stalled = openReclaimable(budget, 40, 10);
    const small = openReclaimable(budget, 5, 10);
    const next = budget.open();
    expect(resize(next, 20)).toThrow('node');
    pass(10);
    next.resize(20);
    expect([fast.lost, stalled.lost, small.lost]).toEqual([[], ['node_busy'], []]);
    expect(budget.usedBytes()).toBe(75);
    // The loser cannot grow again, and its own end frees nothing twice.
    expect(resize(stalled.share, 1)).toThrow('slowest');
    stalled.share.close();
    expect(budget.usedBytes()).toBe(75);
  });

  test('never takes back the share of a fast client, however many bytes it has', () => {
    const { budget, pass } = createBudget({ fastBytesPerSecond: 1_000 });
    const fast = openReclaimable(budget, 90, 2_000);
    pass(2_000);
    expect(resize(budget.open(), 20)).toThrow('holds 90 of at most 100 bytes of request bodies');
    pass(1);
    budget.open().resize(20);
    expect(fast.lost).toEqual(['node_busy']);
  });

  test('measures how fast a client is from the moment at which the share can be taken back', () => {
    const { budget, pass } = createBudget({ fastBytesPerSecond: 1_000 });
    const { share, lost } = openReclaimable(budget, 90, 1_000_000);
    share.makeReclaimable((error) => lost.push(error.code));
    pass(10);
    budget.open().resize(20);
    expect(lost).toEqual(['node_busy']);
  });

  test('never takes back a share whose body is complete', () => {
    const { budget, pass } = createBudget();
    const complete = openReclaimable(budget, 90);
    complete.share.makeFixed();
    pass(1_000);
    expect(resize(budget.open(), 20)).toThrow('node');
    expect(complete.lost).toEqual([]);
  });

  test('lets a share that is alone exceed it, so that everything within the other limits can be done', () => {
    const { budget } = createBudget();
    const [alone, other] = [budget.open(), budget.open()];
    alone.resize(500);
    expect(resize(other, 1)).toThrow('node');
    alone.close();
    other.resize(1);
  });

  test('keeps the memory of a commit after its client has disconnected', async () => {
    const { budget } = createBudget();
    const share = budget.open();
    share.resize(70);
    let finish = (): void => undefined;
    const kept = share.keepDuring(new Promise<void>((resolve) => (finish = resolve)));
    share.close();
    expect(budget.usedBytes()).toBe(70);
    finish();
    await kept;
    expect(budget.usedBytes()).toBe(0);
  });
});

test('the budgets have room for the largest change, page and document, and together fit into 512 MiB', () => {
  const largestBody =
    2 * limits.openBodyBytes + 2 * limits.maxDocumentBytes + limits.bodyMemoryFactor * limits.maxStateBodyBytes;
  expect(limits.maxBodiesBytes).toBeGreaterThanOrEqual(largestBody);
  expect(limits.maxBodiesBytes).toBeGreaterThanOrEqual(limits.commitMemoryFactor * limits.maxStateBodyBytes);
  expect(limits.maxQueueBytes).toBeLessThanOrEqual(limits.maxBodiesBytes);
  expect(limits.maxQueueBytes).toBeGreaterThan(limits.maxStateBodyBytes);
  expect(limits.maxAnswersBytes).toBeGreaterThanOrEqual(limits.answerMemoryFactor * limits.maxPageBytes);
  expect(limits.maxAnswersBytes).toBeGreaterThanOrEqual(limits.answerMemoryFactor * limits.maxDocumentBytes);
  // Buffers that wait for the garbage collector take up to as much again: `test/e2e/service/hostile-memory.test.ts`
  // measures it.
  expect(limits.maxBodiesBytes + limits.maxAnswersBytes).toBeLessThanOrEqual(100 * MiB);
  // A page of document names is short without a bound of its own: a quoted name and some hundred bytes for each.
  expect(limits.maxPageEntries * (2 * limits.maxDocumentNameBytes + 300)).toBeLessThan(limits.maxPageBytes);
});
