import { expect, test } from 'vitest';
import { openNodes } from '../../setup/node/nodes.ts';
import { verify } from '../../setup/node/store.ts';

test('a verification ends when its client disconnects, and leaves the last verdict', async () => {
  const nodes = await openNodes();
  const { node, database } = nodes;
  const holder = await database.pool.connect();
  try {
    await node.put('a', 1);
    await verify(node);
    const before = node.store.observe().lastChainCheck;
    await holder.query('begin; lock table loom_change');
    const controller = new AbortController();
    const aborted = node.store.verifyAudit({ requestId: 'test', signal: controller.signal });
    const isWaiting = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
    await expect.poll(async () => (await database.pool.query(isWaiting)).rowCount).toBe(1);
    controller.abort();
    await expect(aborted).rejects.toMatchObject({ code: 'client_gone' });
    expect(node.store.observe().lastChainCheck).toEqual(before);
    await holder.query('rollback');
    expect(await verify(node)).toMatchObject({ ok: true });
  } finally {
    holder.release();
    await nodes.close();
  }
});
