import { randomUUID } from 'node:crypto';
import type { PoolClient } from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { commitOptions, prepareCommit } from '../../../src/persistence/commit/batch.ts';
import { migrate } from '../../../src/persistence/schema/migrate.ts';
import { loadMigrations } from '../../../src/persistence/schema/migrations.ts';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';
import { openTestStore, verify } from '../../setup/node/store.ts';
import { createEmptyDatabase } from '../../setup/server/database.ts';

let nodes: TestNodes;
const clients: PoolClient[] = [];
beforeEach(async () => {
  nodes = await openNodes();
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.release(true);
  await nodes.close();
});

async function connect(): Promise<PoolClient> {
  const client = await nodes.database.pool.connect();
  clients.push(client);
  return client;
}

/** Returns a call of `loom_commit` that puts one document, as a node sends it. */
function putOf(name: string, stateAt: string | null): { text: string; values: unknown[] } {
  const request = {
    action: 'document.put' as const,
    actor: 'admin' as const,
    requestId: 'request',
    changes: [{ op: 'put' as const, name, json: '1' }],
  };
  const options = { maxDocumentBytes: 1_000, lockTimeoutMs: 9_000, timed: false, seen: undefined, stateAt };
  const commits = `[${prepareCommit(request, randomUUID()).text}]`;
  return { text: 'loom_commit($1, $2, $3)', values: ['default', commits, commitOptions(options)] };
}

interface Answer {
  results: { status: string; seq: number }[];
  state_at: string;
}

async function put(client: PoolClient, name: string, stateAt: string | null): Promise<Answer> {
  const { text, values } = putOf(name, stateAt);
  const { rows } = await client.query(`select ${text} as answer`, values);
  return rows[0].answer;
}

/** Puts a document, and returns the pages that PostgreSQL read or found for it. */
async function pagesOfPut(client: PoolClient, name: string, stateAt: string | null): Promise<number> {
  const { text, values } = putOf(name, stateAt);
  const { rows } = await client.query(`explain (analyze, buffers, format json) select ${text}`, values);
  const { Plan: plan } = rows[0]['QUERY PLAN'][0];
  return plan['Shared Hit Blocks'] + plan['Shared Read Blocks'];
}

it('a commit by place reads no more pages after 1,000 others whose versions a transaction keeps', async () => {
  const client = await connect();
  await client.query('begin');
  const first = await put(client, 'first', null);
  const before = await pagesOfPut(client, 'second', first.state_at);
  let { state_at: at } = await put(client, 'third', null);
  for (let version = 0; version < 1_000; version += 1) ({ state_at: at } = await put(client, 'same', at));
  // Some pages more: the trail has grown. By its key, the row is behind the dozens of pages of its versions.
  expect(await pagesOfPut(client, 'fourth', at)).toBeLessThan(before + 8);
  expect(await pagesOfPut(client, 'fifth', null)).toBeGreaterThan(before + 12);
  await client.query('rollback');
});

it('a node finds the row by its place', async () => {
  // PostgreSQL has counted nothing yet in a new database.
  const database = await createEmptyDatabase();
  await migrate(database.door(), await loadMigrations());
  const node = await openTestStore(database.url);
  const commits = 40;
  for (let index = 0; index < commits; index += 1) await node.put('name', index);
  await node.close();
  const read = async () => {
    const { rows } = await database.pool.query(
      `select t.n_tup_upd::int as updates, i.idx_scan::int as lookups
         from pg_stat_user_tables t join pg_stat_user_indexes i using (relid)
        where t.relname = 'loom_state' and i.indexrelname = 'loom_state_pkey'`,
    );
    return rows[0];
  };
  // PostgreSQL adds what a connection has counted when it ends.
  await expect.poll(async () => (await read()).updates, { timeout: 20_000 }).toBeGreaterThanOrEqual(commits);
  expect((await read()).lookups).toBeLessThan(commits / 2);
  await database.drop();
});

describe('the row is found by its key', () => {
  it.each([
    ['another node has moved it', async () => nodes.node.put('name', 'of another node')],
    ['VACUUM FULL has moved it', async () => nodes.database.pool.query('vacuum full loom_state')],
  ])('if %s', async (_why, move) => {
    const client = await connect();
    const { results, state_at: at } = await put(client, 'name', null);
    await move();
    const { rows } = await client.query(`select audit_seq::int as seq from loom_state where state_key = 'default'`);
    const next = await put(client, 'name', at);
    expect(results).toMatchObject([{ status: 'committed' }]);
    expect(next.results).toMatchObject([{ status: 'committed', seq: rows[0].seq + 1 }]);
    expect(await verify(nodes.node)).toMatchObject({ ok: true });
  });

  it('if the place is that of another state, or of no row', async () => {
    const other = await openTestStore(nodes.database.url, { stateKey: 'other' });
    await other.put('name', 1);
    const client = await connect();
    const { rows } = await client.query(`select ctid::text as at from loom_state where state_key = 'other'`);
    for (const at of [rows[0].at, '(0,65535)', '(4294967295,1)']) {
      expect(await put(client, 'name', at)).toMatchObject({ results: [{ status: 'committed' }] });
    }
    expect((await other.store.readHead()).revision).toBe(1);
    expect(await verify(other)).toMatchObject({ ok: true });
    expect(await verify(nodes.node)).toMatchObject({ ok: true });
    await other.close();
  });
});

describe('a commit that has waited at the place for another one', () => {
  it.each([
    { end: 'commit', gap: 2 },
    { end: 'rollback', gap: 1 },
  ])('continues what its $end has left', async ({ end, gap }) => {
    const [first, second] = [await connect(), await connect()];
    const { results, state_at: at } = await put(first, 'name', null);
    await first.query('begin');
    await put(first, 'name', at);
    const waiting = put(second, 'name', at);
    const isWaiting = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
    await expect.poll(async () => (await nodes.database.pool.query(isWaiting)).rowCount).toBe(1);
    await first.query(end);
    const seq = (results[0]?.seq ?? 0) + gap;
    expect(await waiting).toMatchObject({ results: [{ status: 'committed', seq }] });
    expect(await verify(nodes.node)).toMatchObject({ ok: true });
  });
});
