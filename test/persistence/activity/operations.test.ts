import { describe, expect, test } from 'vitest';
import { createChainChecks } from '../../../src/persistence/activity/chain-checks.ts';
import { createOperations } from '../../../src/persistence/activity/operations.ts';

describe('the running operations', () => {
  test('show what each has counted so far, and end once', () => {
    const ended: [kind: string, error: unknown][] = [];
    const operations = createOperations(({ kind }, error) => ended.push([kind, error]));
    const backup = operations.begin('backup', 'request-1');
    backup.count({ documents: 2 });
    backup.count({ entries: 3 });
    backup.count({ bytes: 40 });
    backup.count({ bytes: 2 });
    expect(operations.running()).toEqual([
      {
        kind: 'backup',
        request_id: 'request-1',
        started_at: expect.stringMatching(/Z$/),
        documents: 2,
        audit_entries: 3,
        bytes: 42,
      },
    ]);
    backup.finish(undefined);
    backup.finish(new Error('too late'));
    expect([operations.running(), ended]).toEqual([[], [['backup', undefined]]]);
  });

  test('list a restore as a plan once it is known to be a dry run', async () => {
    const kinds: string[] = [];
    const operations = createOperations(({ kind }) => kinds.push(kind));
    await operations.track('restore', 'request-1', async (progress) => progress.becomePlan());
    expect(kinds).toEqual(['plan']);
  });

  test('show the phase of an operation once it has entered one', async () => {
    const operations = createOperations();
    await operations.track('restore', 'request-1', async (progress) => {
      expect(operations.running()[0]).not.toHaveProperty('phase');
      for (const phase of ['receiving', 'checking', 'applying'] as const) {
        progress.enter(phase);
        expect(operations.running()).toMatchObject([{ kind: 'restore', phase }]);
      }
    });
  });

  test('report a failure to the caller and to the counter', async () => {
    const errors: unknown[] = [];
    const operations = createOperations((_operation, error) => errors.push(error));
    const failure = new Error('no');
    await expect(operations.track('verify', 'request-1', () => Promise.reject(failure))).rejects.toBe(failure);
    expect([errors, operations.running()]).toEqual([[failure], []]);
  });
});

describe('the last verdict on the chain', () => {
  const valid = { ok: true, by: 'verify', from_seq: 1, to_seq: 9, first_bad_seq: null } as const;
  const broken = { ...valid, ok: false, first_bad_seq: 4 };
  const partial = { ...valid, by: 'backup', from_seq: 5 } as const;

  test('is null until the first check', () => {
    expect(createChainChecks().last()).toBeNull();
  });

  test.each([
    ['a check replaces an earlier one', [valid, partial], partial],
    ['a valid part does not replace a broken chain', [broken, partial], broken],
    ['a check from the first entry on replaces a broken chain', [broken, valid], valid],
    ['a broken part replaces a valid chain', [valid, { ...broken, from_seq: 3 }], { ...broken, from_seq: 3 }],
  ])('%s', (_name, checks, expected) => {
    const chainChecks = createChainChecks();
    for (const check of checks) chainChecks.record(check);
    expect(chainChecks.last()).toEqual({ ...expected, checked_at: expect.stringMatching(/Z$/) });
  });
});
