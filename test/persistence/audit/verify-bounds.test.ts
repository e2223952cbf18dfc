import { expect, test } from 'vitest';
import { limits } from '../../../src/limits.ts';
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

test('a verification counts what undo records have left behind, and lists the first', async () => {
  const nodes = await openNodes();
  try {
    await nodes.node.put('a', 1);
    await nodes.database.pool.query(
      `insert into loom_snapshot_document (state_key, revision, name)
       select 'default', revision, 'a' from generate_series(1, $1::int) as revision`,
      [limits.maxListedMismatches + 1],
    );
    const verdict = await verify(nodes.node);
    expect(verdict).toMatchObject({
      ok: false,
      reason: 'undo_record_mismatch',
      mismatch_count: limits.maxListedMismatches + 1,
    });
    expect(verdict).toHaveProperty('mismatches.length', limits.maxListedMismatches);
  } finally {
    await nodes.close();
  }
});
