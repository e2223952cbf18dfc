import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createConditionLog } from '../src/condition-log.ts';
import { LoomError } from '../src/errors.ts';
import { limits } from '../src/limits.ts';
import { captureLog } from './setup/node/log.ts';

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

function start() {
  const { log, lines } = captureLog();
  const conditions = createConditionLog({
    log,
    describeCause: ({ cause }) => ({ key: String(cause), description: `the cause is ${String(cause)}` }),
  });
  const fail = (cause: string) => conditions.report(new LoomError('database_unavailable', 'No database.', { cause }));
  const logged = () => lines.map((line) => JSON.parse(line));
  return { conditions, fail, logged };
}

test('a cause is logged once when it begins and once when it has ended', () => {
  const { fail, logged } = start();
  for (let request = 0; request < 1_797; request += 1) {
    fail('53100');
    vi.advanceTimersByTime(1);
  }
  expect(logged()).toMatchObject([
    { level: 'warn', code: 'database_unavailable', cause: '53100', msg: expect.stringContaining('the cause is 53100') },
  ]);
  vi.advanceTimersByTime(limits.conditionQuietMs);
  expect(logged()).toHaveLength(2);
  expect(logged()[1]).toMatchObject({ level: 'info', cause: '53100', requests: 1_797, durationMs: 1_796 });
  fail('53100');
  expect(logged()).toHaveLength(3);
});

test('another cause of the same code is another condition', () => {
  const { fail, logged } = start();
  for (const cause of ['53100', '25006', '53100', '25006']) fail(cause);
  expect(logged().map(({ cause }) => cause)).toEqual(['53100', '25006']);
});

test('the number of conditions is bounded, and a closed log stays silent', () => {
  const { conditions, fail, logged } = start();
  for (let cause = 0; cause < limits.maxConditions + 50; cause += 1) fail(String(cause));
  expect(logged()).toHaveLength(limits.maxConditions);
  conditions.close();
  vi.advanceTimersByTime(limits.conditionQuietMs * 2);
  expect(logged()).toHaveLength(limits.maxConditions);
});
