import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openNodes, outcomeOf, type TestNodes } from '../../../setup/node/nodes.ts';
import { openTestStore, verify } from '../../../setup/node/store.ts';
import { startProxy } from '../../../setup/server/proxy.ts';

let nodes: TestNodes;
beforeEach(async () => {
  nodes = await openNodes();
});
afterEach(() => nodes.close());

/** Returns the server process in which a commit waits for the state row. */
async function waitingBackend(): Promise<number> {
  const find = async (): Promise<number | undefined> => {
    const { rows } = await nodes.database.pool.query(
      `select pid from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and query like '%select loom_commit(%'`,
    );
    return rows[0]?.pid;
  };
  await expect.poll(find, { interval: 10, timeout: 10_000 }).toBeTypeOf('number');
  return (await find()) ?? 0;
}

describe('a lost answer', () => {
  it('because the server process died before the commit leads to another attempt, and the batch is committed once', async () => {
    const locker = await nodes.database.pool.connect();
    try {
      await locker.query('begin');
      await locker.query('select from loom_state for update');
      const receipts = Promise.all([nodes.node.put('a', 1), nodes.node.put('b', 2)]);
      const first = await waitingBackend();
      await nodes.database.pool.query('select pg_terminate_backend($1)', [first]);
      // The node sends the batch again on another connection.
      await expect.poll(waitingBackend, { timeout: 10_000 }).not.toBe(first);
      await locker.query('rollback');
      expect((await receipts).map(({ revision }) => revision)).toEqual([1, 2]);
    } finally {
      locker.release(true);
    }
    expect(await nodes.node.state()).toEqual({ a: 1, b: 2 });
    expect(await verify(nodes.node)).toMatchObject({ ok: true, entries: 2 });
  });

  it('after the commit does not lead to a second commit', async () => {
    const proxy = await startProxy(nodes.database.url);
    const far = await openTestStore(proxy.url, { poolMax: 1 });
    try {
      await far.put('before', 0);
      proxy.loseAnswers();
      const receipts = Promise.all([
        far.commit({ action: 'document.patch', changes: [{ op: 'merge', name: 'a', json: '{"x":1}' }] }),
        far.commit({
          precondition: { document: 'b', ifNoneMatch: '*' },
          changes: [{ op: 'put', name: 'b', json: '2' }],
        }),
      ]);
      // The commit is stored before any client has an answer.
      await expect.poll(async () => (await nodes.node.store.readHead()).revision, { timeout: 10_000 }).toBe(3);
      expect(proxy.lost()).toBeGreaterThan(0);
      proxy.heal();
      const { epoch } = await nodes.node.store.readHead();
      expect(await receipts).toMatchObject([
        { revision: 2, epoch, created: true, replayed: false },
        { revision: 3, epoch, created: true, replayed: false },
      ]);
    } finally {
      await far.close();
      await proxy.close();
    }
    expect(await nodes.node.state()).toEqual({ before: 0, a: { x: 1 }, b: 2 });
    expect(await verify(nodes.node)).toMatchObject({ ok: true, entries: 3 });
  });

  it('before a restore is still answered, because only the node of the commit knows its event id', async () => {
    const proxy = await startProxy(nodes.database.url);
    const far = await openTestStore(proxy.url, { poolMax: 1 });
    try {
      const backup = await nodes.node.backup();
      await far.put('before', 0);
      proxy.loseAnswers();
      const receipt = far.commit({ idempotencyKey: 'key', changes: [{ op: 'put', name: 'a', json: '1' }] });
      await expect.poll(async () => (await nodes.node.store.readHead()).revision, { timeout: 10_000 }).toBe(2);
      const { epoch } = await nodes.node.store.readHead();
      await nodes.node.restore(backup);
      proxy.heal();
      expect(await receipt).toMatchObject({ revision: 2, epoch, replayed: false });
      const retry = far.commit({ idempotencyKey: 'key', changes: [{ op: 'put', name: 'a', json: '1' }] });
      expect(await outcomeOf(retry)).toBe('idempotency_key_outdated');
    } finally {
      await far.close();
      await proxy.close();
    }
  });

  it('from a server that was never reached proves that nothing was committed', async () => {
    const proxy = await startProxy(nodes.database.url);
    const far = await openTestStore(proxy.url, { poolMax: 1 });
    await proxy.close();
    await expect.poll(() => far.database.usage().total, { timeout: 10_000 }).toBe(0);
    expect(await outcomeOf(far.put('a', 1))).toBe('database_unavailable');
    await far.close();
    expect(await nodes.node.state()).toEqual({});
  });
});
