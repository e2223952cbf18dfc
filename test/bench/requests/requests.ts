import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { type LoadRequest, loadWithoutErrors } from '../load.ts';
import type { Figure, Goal } from '../results.ts';
import { TOKEN, withBenchServer } from '../server.ts';

const CLIENTS = 32;
const WARM_UP_SECONDS = 5;
/** LOOM and the baseline take turns, so that a change of the machine's load meets both. */
const TURNS = 4;
const TURN_SECONDS = 1;
/** The default of `LOOM_PG_POOL_MAX`. */
const POOL_MAX = 10;
const DOCUMENTS = 32;
const DOCUMENT_BYTES = 1_024;

const headers = { 'x-loom-admin-token': TOKEN };

interface Comparison {
  name: string;
  requests: LoadRequest[];
  comparedWith: string;
  goal: Goal;
}

/** Measures `GET /ready` against a bare handler of Fastify that answers the same. Neither asks the database. */
export function benchmarkReady(): Promise<Figure[]> {
  return compareWithBare({
    name: 'GET /ready',
    requests: [{ path: '/ready' }],
    comparedWith: 'a bare handler of Fastify, without logging',
    goal: { atLeast: 0.85 },
  });
}

/**
 * Measures `GET /v1/documents/{name}` of 1 KB, with a token, an ETag and a log line each. The baseline is a bare
 * handler with the same `select` through a pool of the same size.
 */
export function benchmarkRead(): Promise<Figure[]> {
  return compareWithBare({
    name: 'GET /v1/documents/{name} of 1 KB',
    requests: documentPaths().map((path) => ({ path, headers })),
    comparedWith: 'a bare handler of Fastify with the same select, without logging',
    goal: { atLeast: 0.6 },
  });
}

function documentPaths(): string[] {
  return Array.from({ length: DOCUMENTS }, (_, index) => `/v1/documents/doc-${index}`);
}

async function compareWithBare({ name, requests, comparedWith, goal }: Comparison): Promise<Figure[]> {
  return await withBenchServer(async (server) => {
    const databaseUrl = await server.createDatabase('bench_requests');
    const node = await server.startNode(databaseUrl, { LOOM_PG_POOL_MAX: String(POOL_MAX) });
    const bare = await startBare(databaseUrl);
    try {
      await putDocuments(node.url);
      const ask = async (url: string, seconds: number): Promise<number> =>
        (await loadWithoutErrors({ url, clients: CLIENTS, seconds, requests })).requestsPerSecond;
      for (const url of [node.url, bare.url]) await ask(url, WARM_UP_SECONDS);
      let answers = 0;
      let baseline = 0;
      for (let turn = 0; turn < TURNS; turn += 1) {
        answers += await ask(node.url, TURN_SECONDS);
        baseline += await ask(bare.url, TURN_SECONDS);
      }
      return [
        { name: `${name}, ${CLIENTS} clients, a second`, value: answers / TURNS, unit: '/s' },
        { name: `${name}, ${CLIENTS} clients`, value: answers / baseline, unit: '×', comparedWith, goal },
      ];
    } finally {
      bare.stop();
      await node.stop();
    }
  });
}

async function putDocuments(url: string): Promise<void> {
  const body = JSON.stringify({ text: 'x'.repeat(DOCUMENT_BYTES - '{"text": ""}'.length) });
  for (const path of documentPaths()) {
    const init = { method: 'PUT', headers: { ...headers, 'content-type': 'application/json' }, body };
    const { status } = await fetch(`${url}${path}`, init);
    if (status !== 201) throw new Error(`PUT ${path} was answered with ${status}`);
  }
}

/** Starts `bare.ts` and waits for its URL. */
export async function startBare(databaseUrl: string): Promise<{ url: string; stop(): void }> {
  const file = fileURLToPath(new URL('bare.ts', import.meta.url));
  const child = spawn(process.execPath, ['--import', 'tsx', file, databaseUrl, String(POOL_MAX)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const kill = (): void => void child.kill('SIGKILL');
  process.once('exit', kill);
  const ended = once(child, 'close').then(() => {
    throw new Error('The bare handler ended before it listened.');
  });
  ended.catch(() => undefined);
  const [url] = await Promise.race([once(child.stdout, 'data'), ended]);
  return {
    url: String(url).trim(),
    stop: () => {
      process.off('exit', kill);
      kill();
    },
  };
}
