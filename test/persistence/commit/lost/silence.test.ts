import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../../../src/limits.ts';
import { captureLog } from '../../../setup/node/log.ts';
import { openNodes, type TestNodes } from '../../../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../../../setup/node/store.ts';
import { startProxy, type TestProxy } from '../../../setup/server/proxy.ts';

let nodes: TestNodes;
let proxy: TestProxy;
let far: TestStore;
let captured: ReturnType<typeof captureLog>;
beforeEach(async () => {
  nodes = await openNodes();
  proxy = await startProxy(nodes.database.url);
  captured = captureLog();
  far = await openTestStore(proxy.url, { log: captured.log });
  await far.put('before', 0);
});
afterEach(async () => {
  await far.close();
  await proxy.close();
  await nodes.close();
});

describe('a connection that has gone silent', () => {
  it('before the batch reached the server holds no commit up: the node sends it again on another', async () => {
    expect(proxy.silence()).toBeGreaterThan(0);
    const receipts = await Promise.all([far.put('a', 1), far.put('b', 2)]);
    expect(receipts.map(({ revision }) => revision)).toEqual([2, 3]);
    expect((await far.put('c', 3)).revision).toBe(4);
    expect(await nodes.node.state()).toEqual({ before: 0, a: 1, b: 2, c: 3 });
    expect(await verify(nodes.node)).toMatchObject({ ok: true, entries: 4 });
  });

  it('after the batch reached the server leads to no second commit', async () => {
    proxy.silence('answers');
    const receipt = await far.commit({ changes: [{ op: 'merge', name: 'a', json: '{"x":1}' }] });
    expect(receipt).toMatchObject({ revision: 2, created: true, replayed: false });
    expect(await nodes.node.state()).toEqual({ before: 0, a: { x: 1 } });
    expect(await verify(nodes.node)).toMatchObject({ ok: true, entries: 2 });
  });

  it('in the commit of a large batch holds no later commit up, and leads to no second one', async () => {
    const { pool } = nodes.database;
    await pool.query(`
      create function wait_at_commit() returns trigger language plpgsql as $$
        begin perform pg_advisory_xact_lock_shared(1); return null; end $$;
      create constraint trigger wait_at_commit after insert on loom_audit deferrable initially deferred
        for each row execute function wait_at_commit()`);
    const locker = await pool.connect();
    try {
      await locker.query('select pg_advisory_lock(1)');
      const large = far.put('large', 'x'.repeat(limits.maxUntimedBatchBytes));
      const waiting = `select from pg_stat_activity where wait_event = 'advisory' and query ~ 'commit$'`;
      await expect.poll(async () => (await pool.query(waiting)).rowCount, { timeout: 10_000 }).toBe(1);
      proxy.silence('answers');
      const later = far.put('later', 1);
      await locker.query('select pg_advisory_unlock(1)');
      expect(await large).toMatchObject({ revision: 2, created: true, replayed: false });
      expect((await later).revision).toBe(3);
      expect(await verify(nodes.node)).toMatchObject({ ok: true, entries: 3 });
    } finally {
      locker.release(true);
    }
  });

  it('that breaks before a large batch is committed leads to one commit: the node sends the batch again', async () => {
    const { pool } = nodes.database;
    const locker = await pool.connect();
    try {
      await locker.query('begin');
      await locker.query('select from loom_state for update');
      const large = far.put('large', 'x'.repeat(limits.maxUntimedBatchBytes));
      const waiting = `select pid from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and query ~ 'loom_commit'`;
      await expect.poll(async () => (await pool.query(waiting)).rowCount, { timeout: 10_000 }).toBe(1);
      await pool.query(`select pg_terminate_backend(pid) from (${waiting}) one`);
      await locker.query('rollback');
      expect(await large).toMatchObject({ revision: 2, created: true });
      expect(await verify(nodes.node)).toMatchObject({ ok: true, entries: 2 });
    } finally {
      locker.release(true);
    }
  });

  it('is told from a thin line: a large commit is not sent again while it is on its way', async () => {
    const bytes = limits.maxDocumentBytes - 2;
    // Without an allowance for its size, the commit would look lost before it has arrived.
    const neededMs = limits.suspectAfterMs + limits.suspectGraceMs + 500;
    proxy.slowDown((1_000 * bytes) / neededMs);
    expect((await far.put('large', 'x'.repeat(bytes))).revision).toBe(2);
  });

  it('is told from a server that works: a commit that waits for a lock is not sent again', async () => {
    const locker = await nodes.database.pool.connect();
    try {
      await locker.query('begin');
      await locker.query('select from loom_state for update');
      const receipt = far.put('a', 1);
      const waiting = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
      await expect.poll(async () => (await nodes.database.pool.query(waiting)).rowCount, { timeout: 10_000 }).toBe(1);
      await sleep(limits.suspectAfterMs + limits.suspectLookMs + limits.suspectGraceMs + 500);
      // A busy machine may give the node no answer in time. But an answer says that the server executes the statement.
      expect(captured.lines.filter((line) => /has no answer/.test(line) && !/cannot be asked/.test(line))).toEqual([]);
      await locker.query('rollback');
      expect((await receipt).revision).toBe(2);
    } finally {
      locker.release(true);
    }
  });
});
