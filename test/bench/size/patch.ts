import { createRandom } from '../../setup/values/random.ts';
import { quantile, timed } from '../figures.ts';
import { ask } from '../meanwhile.ts';
import type { Figure } from '../results.ts';
import { type BenchServer, execute, TOKEN, withBenchServer } from '../server.ts';
import { readProgress, walBytesOfCommit } from './progress.ts';

const KB = 1_000;
const sizes = [1 * KB, 100 * KB, 1_000 * KB, 8_000 * KB];
const SECONDS = 3;
const MIN_PATCHES = 5;
const headers = { 'x-loom-admin-token': TOKEN, 'content-type': 'application/json' };

/** How PostgreSQL compresses documents of more than 2 KB. */
const compressions = ['pglz', 'lz4'];

/**
 * Measures a small merge patch of documents of several sizes, by one client. PostgreSQL reads, hashes and writes the
 * whole document each time. Also measures it with lz4, if the server has it.
 */
export async function benchmarkPatch(): Promise<Figure[]> {
  return withBenchServer(async (server) => {
    const figures: Figure[] = [];
    for (const compression of compressions) {
      const url = await server.createDatabase(`bench_patch_${compression}`);
      const setting = `alter database bench_patch_${compression} set default_toast_compression = ${compression}`;
      const exists = await execute(url, setting).then(
        () => true,
        () => false,
      );
      if (!exists) continue;
      const node = await server.startNode(url);
      try {
        figures.push(...(await measure(server, url, node.url, compression === 'pglz' ? '' : `, ${compression}`)));
      } finally {
        await node.stop();
      }
    }
    return figures;
  });
}

async function measure(server: BenchServer, url: string, nodeUrl: string, suffix: string): Promise<Figure[]> {
  const figures: Figure[] = [];
  let smallestMs: number | undefined;
  for (const bytes of sizes) {
    const name = `document-${bytes}`;
    await ask(`${nodeUrl}/v1/documents/${name}`, { method: 'PUT', headers, body: documentOf(bytes) });
    await patchFor(nodeUrl, name, 1);
    await server.checkpoint();
    const before = await readProgress(url);
    const ms = await patchFor(nodeUrl, name, SECONDS);
    const wal = walBytesOfCommit(before, await readProgress(url));
    smallestMs ??= ms;
    const label = `small patch of ${bytes < 1_000 * KB ? `${bytes / KB} KB` : `${bytes / 1_000 / KB} MB`}${suffix}`;
    figures.push(
      { name: label, value: ms / smallestMs, unit: '×', comparedWith: 'a patch of 1 KB' },
      { name: `time of a ${label}`, value: ms, unit: 'ms' },
      { name: `WAL of a ${label}`, value: wal, unit: 'bytes' },
    );
  }
  return figures;
}

/** Patches a document at least five times, and returns the median of the milliseconds. */
async function patchFor(url: string, name: string, seconds: number): Promise<number> {
  const times: number[] = [];
  const end = performance.now() + seconds * 1_000;
  for (let n = 0; n < MIN_PATCHES || performance.now() < end; n += 1) {
    const request = { method: 'PATCH', headers: patchHeaders, body: `{"n":${n}}` };
    times.push((await timed(() => ask(`${url}/v1/documents/${name}`, request))).seconds * 1_000);
  }
  return quantile(
    times.toSorted((one, other) => one - other),
    0.5,
  );
}

const patchHeaders = { ...headers, 'content-type': 'application/merge-patch+json' };

/** Returns a document like an application's: many records whose texts compress by about half. */
function documentOf(bytes: number): string {
  const random = createRandom(bytes);
  const records: Record<string, unknown>[] = [];
  for (let length = 100; length < bytes; ) {
    const id = random.integer(0, 1e9);
    const record = { id, name: `customer ${id}`, code: random.fraction().toString(36).slice(2), price: id % 10_000 };
    records.push(record);
    length += JSON.stringify(record).length + 10;
  }
  return JSON.stringify({ n: 0, records });
}
