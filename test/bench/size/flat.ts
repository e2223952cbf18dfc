import type { Program } from '../../setup/node/program.ts';
import { filledName, fillState, type StateSize } from '../../setup/server/filled-state.ts';
import { createRandom } from '../../setup/values/random.ts';
import { type LoadRequest, loadWithoutErrors } from '../load.ts';
import type { BenchOptions, Figure } from '../results.ts';
import { type BenchServer, query, TOKEN, withBenchServer } from '../server.ts';

import { readProgress } from './progress.ts';

const MiB = 2 ** 20;
const CLIENTS = 32;
const WARM_UP_SECONDS = 3;

/** How long each side is measured in a turn, in seconds, and the number of turns. */
interface Turns {
  small: number;
  large: number;
  count: number;
}

/**
 * Together almost PostgreSQL's `checkpoint_timeout` of 5 minutes. In the first seconds after a checkpoint, nearly every
 * commit writes whole pages of a large state; later, few do. So only a whole interval has the rate of every day.
 */
const INTERVAL: Turns = { small: 6, large: 18, count: 12 };
const SHORT: Turns = { small: 4, large: 4, count: 4 };
/** Leaves the checkpoints to `checkpoint_timeout`, as PostgreSQL's documentation recommends. */
const SETTINGS = { max_wal_size: '16GB' };

/** So many that no name comes twice in a measurement. */
const NAMES_IN_TURN = 150_000;
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
 * change documents all over the state, with `full` for the time from one checkpoint to the next. And once they always
 * change the same ones.
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
      for (const side of sides) await measure(side, changesOf(namesOf(side, NAMES_IN_TURN, 0)), WARM_UP_SECONDS);
      await server.checkpoint();
      const turns = full ? INTERVAL : SHORT;
      const anywhere = await compare(sides, (side, turn) => changesOf(namesOf(side, NAMES_IN_TURN, turn)), turns);
      const same = await compare(sides, (side) => changesOf(namesOf(side, HOT_NAMES, 0)), SHORT);
      const comparedWith = 'a state of 1 MB';
      const ratio = (name: string, value: number): Figure => ({ name, value, unit: '×', comparedWith });
      return [
        { ...ratio(`commits to any document, ${what}`, anywhere.ratio), goal: { atLeast: 0.9 } },
        ratio('commits to any document, first turn after a checkpoint', anywhere.first),
        ratio('commits to any document, last turn before the next checkpoint', anywhere.last),
        ratio(`commits to ${HOT_NAMES} documents, ${what}`, same.ratio),
        ...['small state', 'large state'].flatMap((side, index): Figure[] => [
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
  }, SETTINGS);
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
  /** The rate of the second side, compared with the first: over all turns, and in the first and last one. */
  ratio: number;
  first: number;
  last: number;
  /** Of each side, over all turns: commits per second, and bytes of WAL for a commit. */
  rates: number[];
  wal: number[];
}

interface Turn {
  seconds: number;
  /** Number of commits that were answered in this time, and of all that the WAL has. */
  answered: number;
  commits: number;
  walBytes: number;
}

async function compare(
  sides: readonly [Side, Side],
  requestsOf: (side: Side, turn: number) => LoadRequest[],
  { small, large, count }: Turns,
): Promise<Comparison> {
  const pairs: { small: Turn; large: Turn }[] = [];
  for (let turn = 1; turn <= count; turn += 1) {
    const one = async (side: Side, seconds: number): Promise<Turn> => measure(side, requestsOf(side, turn), seconds);
    // Each side goes first in every other turn, because the first one leaves work to PostgreSQL.
    if (turn % 2 === 0) pairs.push({ small: await one(sides[0], small), large: await one(sides[1], large) });
    else pairs.push({ large: await one(sides[1], large), small: await one(sides[0], small) });
  }
  const totals = [pairs.map((pair) => pair.small), pairs.map((pair) => pair.large)].map(sumOf);
  const [first, last] = [pairs.at(0), pairs.at(-1)].map((pair) => ratioOf(pair?.small, pair?.large));
  return {
    ratio: ratioOf(totals[0], totals[1]),
    first: first ?? Number.NaN,
    last: last ?? Number.NaN,
    rates: totals.map(rateOf),
    wal: totals.map(({ walBytes, commits }) => walBytes / commits),
  };
}

function sumOf(turns: Turn[]): Turn {
  const sum = { seconds: 0, answered: 0, commits: 0, walBytes: 0 };
  for (const turn of turns) {
    sum.seconds += turn.seconds;
    sum.answered += turn.answered;
    sum.commits += turn.commits;
    sum.walBytes += turn.walBytes;
  }
  return sum;
}

function rateOf({ answered, seconds }: Turn): number {
  return answered / seconds;
}

function ratioOf(small: Turn | undefined, large: Turn | undefined): number {
  return small === undefined || large === undefined ? Number.NaN : rateOf(large) / rateOf(small);
}

async function measure({ url, node }: Side, requests: LoadRequest[], seconds: number): Promise<Turn> {
  const before = await readProgress(url);
  const { requestsPerSecond } = await loadWithoutErrors({ url: node.url, clients: CLIENTS, seconds, requests });
  const after = await readProgress(url);
  const commits = after.revision - before.revision;
  return { seconds, answered: requestsPerSecond * seconds, commits, walBytes: after.wal - before.wal };
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
