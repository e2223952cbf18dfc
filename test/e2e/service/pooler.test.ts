import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Pool } from 'pg';
import { describe, expect, test } from 'vitest';
import { limits } from '../../../src/limits.ts';
import { type LoomNode, startNode } from '../../../src/node.ts';
import { testConfig } from '../../setup/node/config.ts';
import { captureLog } from '../../setup/node/log.ts';
import { waitUntil, waitUntilReady } from '../../setup/node/program.ts';
import { createTestDatabase } from '../../setup/server/database.ts';
import { hasPooler, startPooler } from '../../setup/server/pooler.ts';

const TOKEN = 'an-admin-token-for-tests';

async function ask(node: LoomNode, path: string, body?: string): Promise<number> {
  const headers = { 'x-loom-admin-token': TOKEN, 'content-type': 'application/json' };
  const answer = await fetch(`${node.url}${path}`, body === undefined ? { headers } : { method: 'PUT', headers, body });
  await answer.arrayBuffer();
  return answer.status;
}

/** Asks for the whole state and reads nothing of it. */
async function standStill({ url }: LoomNode): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.write(`GET /v1/state HTTP/1.1\r\nhost: x\r\nx-loom-admin-token: ${TOKEN}\r\n\r\n`);
  return socket;
}

/** Lets a commit wait for the lock of the state's row for longer than the node waits before it asks about it. */
async function commitBehindLock(node: LoomNode, pool: Pool): Promise<number> {
  const waiting = `select from pg_stat_activity
                    where datname = current_database() and wait_event_type = 'Lock' and query like '/* loom:%loom_commit%'`;
  const locker = await pool.connect();
  try {
    await locker.query('begin');
    await locker.query('select from loom_state for update');
    const status = ask(node, '/v1/documents/late', '1');
    await waitUntil(
      async () => (await pool.query(waiting)).rowCount,
      (count) => count === 1,
    );
    await sleep(limits.suspectAfterMs + limits.suspectLookMs + limits.suspectGraceMs);
    await locker.query('rollback');
    return await status;
  } finally {
    locker.release(true);
  }
}

async function checkTwoNodes(): Promise<void> {
  const database = await createTestDatabase();
  const pooler = await startPooler(database.url, 4);
  const config = testConfig(pooler.url, { LOOM_PG_POOL_MAX: '3', LOOM_PG_STREAMS_MAX: '1' });
  const { log, lines } = captureLog();
  const nodes = await Promise.all([1, 2].map(() => startNode(config, { log })));
  const stuck: Socket[] = [];
  try {
    for (const node of nodes) await waitUntilReady(node.url);
    const [first, second] = nodes;
    if (first === undefined || second === undefined) throw new Error('two nodes were started');
    // The probes are connected, and hold no connection to the server between their checks.
    await waitUntil(pooler.pool, ({ clients, busy }) => clients >= 2 && busy === 0, 20_000);
    // The node finds its statement by its text: behind a pooler, it does not know the server's process.
    expect(await commitBehindLock(first, database.pool)).toBe(201);
    expect(lines.filter((line) => line.includes('does not know the statement'))).toEqual([]);
    for (const name of ['a', 'b', 'c']) {
      const value = JSON.stringify(randomBytes(5_500_000).toString('base64'));
      expect(await ask(first, `/v1/documents/${name}`, value)).toBe(201);
    }
    for (const node of [first, first, first, first, second, second]) stuck.push(await standStill(node));
    await waitUntil(pooler.pool, ({ busy }) => busy >= 2, 20_000);
    for (let round = 0; round < 10; round += 1) {
      for (const node of nodes) {
        const statuses = [
          await ask(node, '/ready'),
          await ask(node, `/v1/documents/other-${round}`, String(round)),
          await ask(node, `/v1/documents/other-${round}`),
        ];
        expect(statuses.filter((status) => status >= 400)).toEqual([]);
      }
    }
  } finally {
    for (const socket of stuck) socket.destroy();
    await Promise.all(nodes.map((node) => node.close()));
    await pooler.stop();
    await database.drop();
  }
}

describe('two nodes behind a PgBouncer with four connections', () => {
  const reason = hasPooler ? 'PgBouncer is installed' : 'PgBouncer is not installed: only its absence is shown';
  test(`serve commits, reads and /ready while readers of both stand still (${reason})`, async () => {
    if (hasPooler) await checkTwoNodes();
    else await expect(startPooler('postgres://h/d', 4)).rejects.toThrow('not installed');
  });
});
