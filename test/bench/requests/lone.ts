import { limits } from '../../../src/limits.ts';
import { commitOptions, prepareCommit } from '../../../src/persistence/commit/batch.ts';
import { COMMIT_REQUESTS, COMMITTED_DOCUMENT } from '../commit.ts';
import { loadWithoutErrors } from '../load.ts';
import { BASELINE_STATEMENT, BASELINE_TABLES, prepareStatement } from '../pgbench.ts';
import type { Figure } from '../results.ts';
import { execute, withBenchServer } from '../server.ts';
import { startBare } from './requests.ts';

/** V8 has compiled the code of a request only after some 10,000 of them. */
const WARM_UP_SECONDS = 10;
/** All of them take turns, so that a change of the machine's load meets each. */
const TURNS = 4;
const TURN_SECONDS = 1;

/** Measures what one client can reach per second, in a number of seconds. */
type Rate = (seconds: number) => Promise<number>;

/**
 * Measures where the time of a lone client's commit goes. Each figure is a rate of one client against the baseline of
 * the benchmark `commit`: of `loom_commit` alone, called by pgbench; of the baseline's statement behind a bare handler
 * of Fastify, the most that a service on Node can reach; and of LOOM.
 */
export async function benchmarkLone(): Promise<Figure[]> {
  return await withBenchServer(async (server) => {
    const baselineUrl = await server.createDatabase('bench_pgbench');
    await execute(baselineUrl, BASELINE_TABLES);
    const loomUrl = await server.createDatabase('bench_loom');
    const node = await server.startNode(loomUrl);
    const bare = await startBare(baselineUrl);
    try {
      const baseline = await prepareStatement(server, { url: baselineUrl, name: 'one', statement: BASELINE_STATEMENT });
      const call = await prepareStatement(server, { url: loomUrl, name: 'loom_commit', statement: CALL });
      if (baseline === undefined || call === undefined) throw new Error('This benchmark needs pgbench.');
      const put = (url: string) => async (seconds: number) =>
        (await loadWithoutErrors({ url, clients: 1, seconds, requests: COMMIT_REQUESTS })).requestsPerSecond;
      return await compare((seconds) => baseline(1, seconds), {
        'loom_commit alone, called by pgbench': (seconds) => call(1, seconds),
        'the baseline behind a bare handler of Fastify': put(bare.url),
        'a commit of LOOM': put(node.url),
      });
    } finally {
      bare.stop();
      await node.stop();
    }
  });
}

async function compare(baseline: Rate, rates: Record<string, Rate>): Promise<Figure[]> {
  const all = { baseline, ...rates };
  const sums: Record<string, number> = {};
  for (const rate of Object.values(all)) await rate(WARM_UP_SECONDS);
  for (let turn = 0; turn < TURNS; turn += 1)
    for (const [name, rate] of Object.entries(all)) sums[name] = (sums[name] ?? 0) + (await rate(TURN_SECONDS));
  const { baseline: statements = Number.NaN } = sums;
  const comparedWith = 'pgbench, one statement (update a row, insert a row)';
  return [
    { name: 'one client: time of a statement of the baseline', value: (1_000 * TURNS) / statements, unit: 'ms' },
    ...Object.keys(rates).map((name) => ({
      name: `one client: ${name}`,
      value: (sums[name] ?? Number.NaN) / statements,
      unit: '×',
      comparedWith,
    })),
  ];
}

/** The SQL of a commit like those of the other rates. PostgreSQL makes the event id, which must be new each time. */
const CALL = callOfCommit();

function callOfCommit(): string {
  const eventId = '00000000-0000-4000-8000-000000000000';
  const { text } = prepareCommit(
    {
      action: 'document.put',
      actor: 'admin',
      requestId: eventId,
      changes: [{ op: 'put', name: 'doc-17', json: COMMITTED_DOCUMENT }],
    },
    eventId,
  );
  const { maxDocumentBytes, commitLockTimeoutMs: lockTimeoutMs } = limits;
  const options = commitOptions({ maxDocumentBytes, lockTimeoutMs, timed: false, seen: undefined, stateAt: null });
  const commits = `[${text}]`.replace(eventId, `' || gen_random_uuid() || '`);
  return `select loom_commit('default', ('${commits}')::jsonb, '${options}')`;
}
