import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { filledName, fillState } from '../../setup/server/filled-state.ts';
import { quantile, timed } from '../figures.ts';
import { type LoadRequest, loadWithoutErrors, startLoad } from '../load.ts';
import { ask, commit } from '../meanwhile.ts';
import { type BenchOptions, entryCounts, type Figure } from '../results.ts';
import { type BenchServer, TOKEN, withBenchServer } from '../server.ts';
import { sendRestore, takeBackup } from './transfers.ts';

const DOCUMENTS = 2_000;
const DOCUMENT_BYTES = 2_000;
const CLIENTS = 32;
const SECONDS = 6;
/** Longer than any backup. The load ends with the backup. */
const MAX_LOAD_SECONDS = 3_600;
const PAUSE_MS = 10;
const DELAY_RESOLUTION_MS = 5;

const token = { 'x-loom-admin-token': TOKEN };

/** Latencies of other clients during an operation, in milliseconds and sorted. */
interface Latencies {
  seconds: number;
  ready: number[];
  read: number[];
  commit: number[];
  /** p99 delay of this process's own event loop. Every latency includes it. */
  own: number;
}

/**
 * Measures what other clients notice of a backup and of a restore: the rate of commits of 32 clients during a backup,
 * and then the latencies of `/ready`, reads and commits of one client each.
 */
export async function benchmarkWaits(options: BenchOptions): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const entries of entryCounts(options)) {
    await withBenchServer(async (server) => void figures.push(...(await measure(server, entries))));
  }
  return figures;
}

async function measure(server: BenchServer, entries: number): Promise<Figure[]> {
  const label = `${entries.toLocaleString('en')} entries`;
  const url = await server.createDatabase('bench_waits');
  await fillState(url, { documents: DOCUMENTS, documentBytes: DOCUMENT_BYTES, entries });
  const node = await server.startNode(url);
  const file = join(server.directory, 'backup.json');
  try {
    const idle = await during(node.url, () => sleep(SECONDS * 1_000));
    const backup = await during(node.url, () => takeBackup(node.url, file));
    const rates = await commitRates(server, node.url);
    // The clients have changed every document since that backup.
    const restore = await during(node.url, () => sendRestore(node.url, file));
    const again = await during(node.url, () => sendRestore(node.url, file));
    return [
      {
        name: `commits during a backup, ${CLIENTS} clients, ${label}`,
        value: rates.during / rates.before,
        unit: '×',
        comparedWith: 'their rate before',
        goal: { atLeast: 0.6 },
      },
      {
        name: `/ready, p99 without a backup or restore, ${label}`,
        value: quantile(idle.ready, 0.99),
        unit: 'ms',
      },
      ...latenciesOf(`a backup, ${label}`, backup),
      ...latenciesOf(`a restore that changes every document, ${label}`, restore),
      ...holdOf(`a restore that changes every document, ${label}`, restore),
      ...latenciesOf(`a restore that changes one document, ${label}`, again),
      ...holdOf(`a restore that changes one document, ${label}`, again),
    ];
  } finally {
    await node.stop();
  }
}

/** Measures the rates of commits before and during a backup. */
async function commitRates(server: BenchServer, nodeUrl: string): Promise<{ before: number; during: number }> {
  const requests = Array.from({ length: DOCUMENTS }, (_, index): LoadRequest => {
    const headers = { ...token, 'content-type': 'application/json' };
    return { method: 'PUT', path: `/v1/documents/${filledName(index)}`, headers, body: `{"changed":${index}}` };
  });
  const options = { url: nodeUrl, clients: CLIENTS, requests };
  await loadWithoutErrors({ ...options, seconds: 2 });
  await server.checkpoint();
  const before = await loadWithoutErrors({ ...options, seconds: SECONDS });
  const load = await startLoad({ ...options, seconds: MAX_LOAD_SECONDS });
  await takeBackup(nodeUrl, join(server.directory, 'meanwhile.json'));
  load.stop();
  const during = await load.result;
  if (during.non2xx > 0) throw new Error(`${during.non2xx} commits failed during the backup`);
  return { before: before.requestsPerSecond, during: during.requestsPerSecond };
}

/** Runs `work` while one client each polls `/ready`, reads a document, and commits, with short pauses. */
async function during(nodeUrl: string, work: () => Promise<unknown>): Promise<Latencies> {
  let isDone = false;
  const repeat = async (send: () => Promise<unknown>): Promise<number[]> => {
    const latencies: number[] = [];
    while (!isDone) {
      latencies.push((await timed(send)).seconds * 1_000);
      await sleep(PAUSE_MS);
    }
    return latencies.toSorted((one, other) => one - other);
  };
  const ownDelay = monitorEventLoopDelay({ resolution: DELAY_RESOLUTION_MS });
  ownDelay.enable();
  const others = Promise.all([
    repeat(() => ask(`${nodeUrl}/ready`)),
    repeat(() => ask(`${nodeUrl}/v1/documents/${filledName(1)}`, { headers: token })),
    repeat(() => commit(nodeUrl, 'committed-meanwhile')),
  ]);
  try {
    const { seconds } = await timed(work);
    isDone = true;
    const [ready, read, committed] = await others;
    const own = ownDelay.percentile(99) / 1e6 - DELAY_RESOLUTION_MS;
    return { seconds, ready, read, commit: committed, own };
  } finally {
    isDone = true;
    ownDelay.disable();
    await others.catch(() => undefined);
  }
}

function latenciesOf(what: string, { seconds, ready, read, own }: Latencies): Figure[] {
  const figure = (name: string, value: number, atMost?: number): Figure => ({
    name: `${name} during ${what}`,
    value,
    unit: 'ms',
    ...(atMost === undefined ? {} : { goal: { atMost } }),
  });
  return [
    { name: `duration of ${what}`, value: seconds, unit: 's' },
    figure('/ready, p99', quantile(ready, 0.99), 50),
    figure('/ready, longest', quantile(ready, 1), 900),
    figure('read of a document, p99', quantile(read, 0.99), 100),
    figure('delay of the measuring process, p99', own),
  ];
}

function holdOf(what: string, { commit: latencies }: Latencies): Figure[] {
  return [{ name: `longest commit during ${what}`, value: quantile(latencies, 1), unit: 'ms' }];
}
