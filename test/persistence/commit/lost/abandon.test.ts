import { expect, test } from 'vitest';
import type { CommitRequest } from '../../../../src/domain/commit.ts';
import { LoomError } from '../../../../src/errors.ts';
import type { CommitOutcome, PreparedCommit } from '../../../../src/persistence/commit/batch.ts';
import { createGroupCommit } from '../../../../src/persistence/commit/group-commit.ts';
import { outcomeOf } from '../../../setup/node/nodes.ts';

function put(name: string): CommitRequest {
  return { action: 'document.put', actor: 'client', requestId: 'test', changes: [{ op: 'put', name, json: '1' }] };
}

/** Creates a group commit. Each batch waits until the test lets it be sent, and then until the test ends it. */
function start() {
  const sent: string[][] = [];
  let arrived: (() => void) | undefined;
  let connect: () => void = () => undefined;
  let fail: (error: unknown) => void = () => undefined;
  const group = createGroupCommit({
    createEventId: () => 'event',
    wait: () => Promise.resolve(),
    commitBatch: async (commits: PreparedCommit[]): Promise<CommitOutcome[]> => {
      const connected = new Promise<void>((resolve) => {
        connect = resolve;
      });
      arrived?.();
      await connected;
      group.beforeSend();
      sent.push(commits.map((one) => one.request.changes[0]?.name ?? ''));
      return await new Promise((_resolve, reject) => {
        fail = reject;
      });
    },
  });
  const batch = (): Promise<void> =>
    new Promise((resolve) => {
      arrived = resolve;
    });
  const settled = () => new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));
  return { group, sent, batch, settled, connect: () => connect(), fail: (error: unknown) => fail(error) };
}

test('an abandoned commit has an unknown outcome if it was sent, and a waiting one was not made', async () => {
  const { group, sent, batch, connect, settled } = start();
  const arrival = batch();
  const first = outcomeOf(group.submit(put('a')));
  await arrival;
  connect();
  await settled();
  const second = outcomeOf(group.submit(put('b')));
  await group.abandon();
  expect(await Promise.all([first, second])).toEqual(['commit_outcome_unknown', 'draining']);
  expect(await outcomeOf(group.submit(put('c')))).toBe('draining');
  expect(sent).toEqual([['a']]);
  expect(group.depth()).toBe(1);
});

test('a batch that waits for a connection is answered as not made, and is not sent later', async () => {
  const { group, sent, batch, connect } = start();
  const arrival = batch();
  const only = outcomeOf(group.submit(put('a')));
  await arrival;
  await group.abandon();
  expect(await only).toBe('draining');
  connect();
  await group.close();
  expect(sent).toEqual([]);
});

test('an abandoned batch is not sent again after a lost answer', async () => {
  const { group, sent, batch, connect, fail, settled } = start();
  const arrival = batch();
  const only = outcomeOf(group.submit(put('a')));
  await arrival;
  connect();
  await settled();
  await group.abandon();
  fail(new LoomError('commit_outcome_unknown', 'The connection broke.'));
  await group.close();
  expect(await only).toBe('commit_outcome_unknown');
  expect(sent).toHaveLength(1);
});

test('the commits of a failed batch are not sent one by one after they were abandoned', async () => {
  const { group, sent, batch, connect, fail, settled } = start();
  const arrival = batch();
  const both = ['a', 'b'].map((name) => outcomeOf(group.submit(put(name))));
  await arrival;
  connect();
  await settled();
  await group.abandon();
  fail(new LoomError('internal', 'A commit is at fault.'));
  await group.close();
  expect(await Promise.all(both)).toEqual(['commit_outcome_unknown', 'commit_outcome_unknown']);
  expect(sent).toHaveLength(1);
});
