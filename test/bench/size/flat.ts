import type { Program } from '../../setup/node/program.ts';
import { filledName, fillState, type StateSize } from '../../setup/server/filled-state.ts';
import { createRandom } from '../../setup/values/random.ts';
import { quantile } from '../figures.ts';
import { type LoadRequest, loadWithoutErrors } from '../load.ts';
import type { BenchOptions, Figure } from '../results.ts';
import { type BenchServer, query, TOKEN, withBenchServer } from '../server.ts';

import { readProgress, walBytesOfCommit } from './progress.ts';

const MiB = 2 ** 20;
const CLIENTS = 32;
const WARM_UP_SECONDS = 3;
const WARM_UP_FULL_SECONDS = 10;
const PAIRS = 4;
const SECONDS = 4;
/** So many that no name comes twice in a measurement. */
const NAMES_IN_TURN = 50_000;
const HOT_NAMES = 32;

const DOCUMENT_BYTES = 1_000;
const small: StateSize = { documents: 1_000, documentBytes: DOCUMENT_BYTES, entries: 1_000 };
const ENTRIES = { full: 3_000_000, small: 150_000 };
const ENTRIES_OF_A_DOCUMENT = 3;

/** A node on a filled state. */
interface Side {
  url: string;
  node: Program;
  documents: number;
}

/**
 * Measures whether commits cost the same in a large state as in a small one, on one server, in turns. Once the clients
 * change documents all over the state, and once always the same ones.
 */
export async function benchmarkFlat({
  full,
  entries = full ? ENTRIES.full : ENTRIES.small,
}: BenchOptions): Promise<Figure[]> {
  return withBenchServer(async (server) => {
    const size = { documents: Math.ceil(entries / ENTRIES_OF_A_DOCUMENT), documentBytes: DOCUMENT_BYTES, entries };
    const sides = [await openSide(server, 'bench_small', small), await openSide(server, 'bench_large', size)] as const;
    const [documentCount, entryCount] = [size.documents, size.entries].map((count) => count.toLocaleString('en'));
    const what = `${documentCount} documents, ${entryCount} entries`;
    try {
      await server.checkpoint();
      const warmUp = full ? WARM_UP_FULL_SECONDS : WARM_UP_SECONDS;
      const anywhere = await compare(sides, (side, turn) => changesOf(namesOf(side, NAMES_IN_TURN, turn)), warmUp);
      const same = await compare(sides, (side) => changesOf(namesOf(side, HOT_NAMES, 0)), WARM_UP_SECONDS);
      const comparedWith = 'a state of 1 MB';
      return [
        {
          name: `commits to any document, ${what}`,
          value: anywhere.ratio,
          unit: '×',
          comparedWith,
          goal: { atLeast: 0.9 },
        },
        { name: `commits to ${HOT_NAMES} documents, ${what}`, value: same.ratio, unit: '×', comparedWith },
        ...['small state', 'large state'].flatMap((side, index) => [
          { name: `commits to any document, ${side}`, value: anywhere.rates[index] ?? Number.NaN, unit: '/s' },
          { name: `WAL of a commit to any document, ${side}`, value: anywhere.wal[index] ?? Number.NaN, unit: 'bytes' },
          {
            name: `WAL of a commit to ${HOT_NAMES} documents, ${side}`,
            value: same.wal[index] ?? Number.NaN,
            unit: 'bytes',
          },
        ]),
        ...(await sizes(sides[1].url)),
      ];
    } finally {
      for (const { node } of sides) await node.stop();
    }
  });
}

async function openSide(server: BenchServer, database: string, size: StateSize): Promise<Side> {
  const url = await server.createDatabase(database);
  await fillState(url, size);
  return { url, documents: size.documents, node: await server.startNode(url) };
}

/** Returns other names for each turn, so that a turn changes pages that the one before has not changed. */
function namesOf({ documents }: Side, count: number, turn: number): string[] {
  const random = createRandom(turn + 1);
  return Array.from({ length: count }, () => filledName(random.integer(0, documents - 1)));
}

function changesOf(names: string[]): LoadRequest[] {
  const headers = { 'x-loom-admin-token': TOKEN, 'content-type': 'application/json' };
  const body = JSON.stringify({ text: 'x'.repeat(DOCUMENT_BYTES - 50) });
  return names.map((name) => ({ method: 'PUT', path: `/v1/documents/${name}`, headers, body }));
}

interface Comparison {
  /** The rate of the second side, compared with the first: the median of all pairs. */
  ratio: number;
  /** Of each side, the medians: commits per second, and bytes of WAL for a commit. */
  rates: number[];
  wal: number[];
}

async function compare(
  sides: readonly Side[],
  requestsOf: (side: Side, turn: number) => LoadRequest[],
  warmUp: number,
): Promise<Comparison> {
  const seen = sides.map(() => ({ rates: [] as number[], wal: [] as number[] }));
  for (const side of sides) await measure(side, requestsOf(side, 0), warmUp);
  for (let pair = 0; pair < PAIRS; pair += 1) {
    // Each side goes first in every other pair, because the first one leaves work to PostgreSQL.
    for (const index of pair % 2 === 0 ? [0, 1] : [1, 0]) {
      const side = sides[index];
      if (side === undefined) continue;
      const { rate, walBytes } = await measure(side, requestsOf(side, pair + 1), SECONDS);
      seen[index]?.rates.push(rate);
      seen[index]?.wal.push(walBytes);
    }
  }
  const ratios = seen[1]?.rates.map((rate, pair) => rate / (seen[0]?.rates[pair] ?? Number.NaN)) ?? [];
  return {
    ratio: median(ratios),
    rates: seen.map(({ rates }) => median(rates)),
    wal: seen.map(({ wal }) => median(wal)),
  };
}

async function measure(
  { url, node }: Side,
  requests: LoadRequest[],
  seconds: number,
): Promise<{ rate: number; walBytes: number }> {
  const before = await readProgress(url);
  const { requestsPerSecond: rate } = await loadWithoutErrors({ url: node.url, clients: CLIENTS, seconds, requests });
  const after = await readProgress(url);
  return { rate, walBytes: walBytesOfCommit(before, after) };
}

async function sizes(url: string): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const table of ['loom_document', 'loom_audit', 'loom_change']) {
    const { total, indexes } = await tableBytes(url, table);
    figures.push({ name: `size of ${table}`, value: total / MiB, unit: 'MiB' });
    figures.push({ name: `size of the indexes of ${table}`, value: indexes / MiB, unit: 'MiB' });
  }
  return figures;
}

/** Returns the size of a table with its indexes and TOAST, and of its indexes alone. */
async function tableBytes(url: string, table: string): Promise<{ total: number; indexes: number }> {
  const size = async (measure: string): Promise<number> => Number(await query(url, `select ${measure}('${table}')`));
  return { total: await size('pg_total_relation_size'), indexes: await size('pg_indexes_size') };
}

function median(values: number[]): number {
  return quantile(
    values.toSorted((one, other) => one - other),
    0.5,
  );
}
