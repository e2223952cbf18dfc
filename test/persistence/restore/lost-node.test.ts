import { connect, createServer, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../../src/limits.ts';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';
import { openTestStore, verify } from '../../setup/node/store.ts';

let nodes: TestNodes;
beforeEach(async () => {
  nodes = await openNodes();
});
afterEach(() => nodes.close());

/** Starts a TCP proxy that can fall silent, as the network does when a node loses power: no byte and no FIN. */
async function startBlackHole(databaseUrl: string) {
  const url = new URL(databaseUrl);
  const { hostname, port } = url;
  const sockets = new Set<Socket>();
  let isSilent = false;
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.on('error', () => undefined);
      from.on('data', (bytes) => {
        if (!isSilent) to.write(bytes);
      });
      from.on('close', () => {
        if (!isSilent) to.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  url.hostname = '127.0.0.1';
  url.port = String(typeof address === 'object' ? address?.port : '');
  return {
    url: url.href,
    fallSilent: () => {
      isSilent = true;
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Makes each insert into a table sleep in PostgreSQL, so that a test can act in the middle of an operation. */
async function slowInserts(table: string, seconds: number): Promise<void> {
  await nodes.database.pool.query(`
    create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(${seconds}); return null; end $$;
    create trigger slow before insert on ${table} for each statement execute function slow()`);
}

async function isSleeping(): Promise<boolean> {
  const { rows } = await nodes.database.pool.query(
    `select 1 from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'`,
  );
  return rows.length > 0;
}

describe('a restore whose node is lost in its last step', () => {
  it('holds the state row until PostgreSQL ends its transaction, and then commits and restores go on', async () => {
    await nodes.node.put('a', 1);
    const backup = await nodes.node.backup();
    await nodes.node.put('b', 2);
    const hole = await startBlackHole(nodes.database.url);
    const lost = await openTestStore(hole.url);
    try {
      expect(await nodes.node.store.readLocks()).toEqual({ state: null, restore: null });
      await slowInserts('loom_snapshot', 1);
      const outcome = lost.restore(backup).catch((error: unknown) => error);
      await expect.poll(isSleeping, { interval: 20, timeout: 20_000 }).toBe(true);
      hole.fallSilent();
      const { state, restore } = await nodes.node.store.readLocks();
      expect(state).toEqual({
        pid: expect.any(Number),
        application_name: 'loom-test',
        since: expect.stringMatching(/Z$/),
      });
      expect(restore).toEqual(state);
      await expect(nodes.node.restore(backup, { dry_run: true })).rejects.toMatchObject({
        code: 'restore_in_progress',
      });

      // The commit waits, and is not refused: the bound is shorter than its patience.
      expect(limits.lockedIdleTimeoutMs + 2_000).toBeLessThan(limits.commitLockTimeoutMs);
      await nodes.node.put('c', 3);
      expect(await nodes.node.state()).toEqual({ a: 1, b: 2, c: 3 });
      expect(await nodes.node.store.readLocks()).toEqual({ state: null, restore: null });
      await nodes.database.pool.query('drop trigger slow on loom_snapshot');
      expect(await nodes.node.restore(backup)).toMatchObject({ documents: { removed: 2 } });
      expect(await verify(nodes.node)).toMatchObject({ ok: true });
      await hole.close();
      expect(await outcome).toBeInstanceOf(Error);
    } finally {
      await hole.close().catch(() => undefined);
      await lost.close();
    }
  }, 60_000);
});

describe('time limits that are set for the role or the database', () => {
  it('do not abort a slow restore, an undo, a backup that is read slowly, a verification or a drop', async () => {
    // More than the buffers between PostgreSQL and the reader hold.
    await nodes.node.put('large', 'x'.repeat(8_000_000));
    const backup = await nodes.node.backup();
    await nodes.node.put('b', 2);
    await slowInserts('loom_snapshot', 1.2);
    await nodes.database.pool.query(`do $$ begin
      execute format('alter database %I set statement_timeout = 1000', current_database());
      execute format('alter database %I set idle_in_transaction_session_timeout = 1000', current_database()); end $$`);
    const node = await openTestStore(nodes.database.url);
    try {
      async function* slowly() {
        yield Buffer.from('{"confirm":"restore",');
        await sleep(1_200);
        yield Buffer.from(`"backup":${backup}}`);
      }
      expect(await node.restoreBody(Readable.from(slowly()))).toMatchObject({ documents: { removed: 1 } });
      await nodes.database.pool.query('drop trigger slow on loom_snapshot');
      expect(await node.undo()).toMatchObject({ documents: { added: 1 } });
      const signal = new AbortController().signal;
      const { body } = await node.store.openBackup({ includeAudit: true }, { requestId: 'test', signal });
      await sleep(1_200);
      expect(JSON.parse(await text(body)).manifest.documents).toBe(2);
      expect(await verify(node)).toMatchObject({ ok: true });
      await node.restore(backup, { into_scratch: 'trial' });
      expect(await node.store.dropScratch('trial')).toMatchObject({ documents: 1 });
    } finally {
      await node.close();
    }
  }, 60_000);
});
