import { loadWithoutErrors } from './load.ts';
import { prepareBaseline, type StatementRate } from './pgbench.ts';
import type { Figure, Goal } from './results.ts';
import { query, TOKEN, withBenchServer } from './server.ts';

const WARM_UP_SECONDS = 1;
/** LOOM and the baseline take turns, so that a change of the machine's load meets both. */
const TURNS = 3;
const TURN_SECONDS = 2;

const goals: { clients: number; goal: Goal }[] = [
  { clients: 32, goal: { atLeast: 2.5 } },
  { clients: 1, goal: { atLeast: 0.5 } },
];

export const COMMITTED_DOCUMENT = JSON.stringify({ counter: 1, text: 'x'.repeat(100) });

/** The clients send these requests in turn. */
export const COMMIT_REQUESTS = Array.from({ length: 32 }, (_, index) => ({
  method: 'PUT' as const,
  path: `/v1/documents/doc-${index}`,
  headers: { 'x-loom-admin-token': TOKEN, 'content-type': 'application/json' },
  body: COMMITTED_DOCUMENT,
}));

/**
 * Measures durable commits per second over HTTP on one state key, and the WAL of each. The baseline is pgbench with one
 * statement that updates one row and inserts one, on the same server. LOOM answers only after its transaction has
 * committed.
 */
export async function benchmarkCommit(): Promise<Figure[]> {
  return await withBenchServer(async (server) => {
    const baseline = await prepareBaseline(server);
    const databaseUrl = await server.createDatabase('bench_loom');
    const node = await server.startNode(databaseUrl);
    const commit = async (clients: number, seconds: number): Promise<number> =>
      (await loadWithoutErrors({ url: node.url, clients, seconds, requests: COMMIT_REQUESTS })).requestsPerSecond;
    try {
      const figures: Figure[] = [];
      for (const { clients, goal } of goals) {
        await commit(clients, WARM_UP_SECONDS);
        figures.push(...(await compare(clients, goal, { commit, baseline })));
        figures.push(await measureWal(clients, databaseUrl, commit));
      }
      return figures;
    } finally {
      await node.stop();
    }
  });
}

type Rate = (clients: number, seconds: number) => Promise<number>;

async function compare(
  clients: number,
  goal: Goal,
  { commit, baseline }: { commit: Rate; baseline: StatementRate | undefined },
): Promise<Figure[]> {
  let commits = 0;
  let statements = 0;
  for (let turn = 0; turn < TURNS; turn += 1) {
    commits += await commit(clients, TURN_SECONDS);
    statements += (await baseline?.(clients, TURN_SECONDS)) ?? 0;
  }
  const name = `commits, ${clients} ${clients === 1 ? 'client' : 'clients'}`;
  const rate = { name: `${name}, a second`, value: commits / TURNS, unit: '/s' };
  if (baseline === undefined) return [rate];
  const comparedWith = 'pgbench, one statement (update a row, insert a row)';
  return [rate, { name, value: commits / statements, unit: '×', comparedWith, goal }];
}

/** Returns the WAL of a commit, without that of a checkpoint's full pages. */
async function measureWal(clients: number, url: string, commit: Rate): Promise<Figure> {
  const read = async (text: string) => Number(await query(url, text));
  const revision = 'select revision from loom_state';
  const wal = `select pg_current_wal_lsn() - '0/0'`;
  await query(url, 'checkpoint');
  await commit(clients, WARM_UP_SECONDS);
  const before = { revision: await read(revision), wal: await read(wal) };
  await commit(clients, TURN_SECONDS);
  const bytes = ((await read(wal)) - before.wal) / ((await read(revision)) - before.revision);
  return { name: `WAL of a commit, ${clients} ${clients === 1 ? 'client' : 'clients'}`, value: bytes, unit: 'bytes' };
}
