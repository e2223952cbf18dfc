import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fillState } from '../../setup/server/filled-state.ts';
import { ask } from '../meanwhile.ts';
import { type BenchOptions, entryCounts, type Figure } from '../results.ts';
import { type BenchServer, TOKEN, withBenchServer } from '../server.ts';
import { meterMemory, readMemoryMiB, run, sendRestore, takeBackup } from './transfers.ts';

const MiB = 2 ** 20;
const DOCUMENTS = 2_000;
const DOCUMENT_BYTES = 2_000;
const FINGERPRINT_BYTES = 8;

/**
 * Measures by how much backup, restore and verification grow the memory of a process that has just started, at several
 * numbers of entries. Needs Linux.
 */
export async function benchmarkMemory(options: BenchOptions): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const entries of entryCounts(options)) {
    await withBenchServer(async (server) => void figures.push(...(await measure(server, entries))));
  }
  return figures;
}

async function measure(server: BenchServer, entries: number): Promise<Figure[]> {
  const label = `${entries.toLocaleString('en')} entries`;
  const fingerprints = (entries * FINGERPRINT_BYTES) / MiB;
  const growth = (name: string, value: number, atMost: number): Figure => {
    return { name: `${name}, ${label}`, value, unit: 'MiB', goal: { atMost: Math.round(atMost) } };
  };
  const url = await server.createDatabase('bench_memory');
  await fillState(url, { documents: DOCUMENTS, documentBytes: DOCUMENT_BYTES, entries });
  const file = join(server.directory, 'backup.json');
  const backup = await growthDuring(server, url, (node) => takeBackup(node, file));
  const chain = await growthDuring(server, url, (node) =>
    ask(`${node}/v1/audit/verify`, { headers: { 'x-loom-admin-token': TOKEN } }),
  );
  await server.dropDatabase('bench_memory');
  const empty = await server.createDatabase('bench_memory_empty');
  const restore = await growthDuring(server, empty, async (node) => void (await sendRestore(node, file)));
  await server.dropDatabase('bench_memory_empty');
  const offline = (await verifyPeakMiB(server.entry, file)) - (await idlePeakMiB(server));
  const { size } = await stat(file);
  await rm(file);
  return [
    { name: `size of the backup, ${label}`, value: size / MiB, unit: 'MiB' },
    growth('backup', backup, 64),
    growth('restore into an empty database', restore, 96),
    growth('GET /v1/audit/verify', chain, 64 + fingerprints),
    growth('verify FILE', offline, 64 + fingerprints),
  ];
}

/** Starts a node, runs `work` against it, and returns the growth of its memory. */
async function growthDuring(
  server: BenchServer,
  databaseUrl: string,
  work: (nodeUrl: string) => Promise<void>,
): Promise<number> {
  const node = await server.startNode(databaseUrl);
  try {
    await ask(`${node.url}/ready`);
    const meter = await meterMemory(node.pid);
    await work(node.url);
    return await meter.growthMiB();
  } finally {
    await node.stop();
  }
}

/** Returns the peak memory of the program when it verifies a file. */
async function verifyPeakMiB(entry: string, path: string): Promise<number> {
  let peak = 0;
  await run('exec "$1" "$2" verify "$3"', [process.execPath, entry, path], async (pid) => {
    peak = Math.max(peak, await readMemoryMiB(pid, 'VmHWM'));
  });
  return peak;
}

/** Returns the same for the backup of an empty state. */
async function idlePeakMiB(server: BenchServer): Promise<number> {
  const node = await server.startNode(await server.createDatabase('bench_memory_idle'));
  const file = join(server.directory, 'empty.json');
  try {
    await takeBackup(node.url, file);
    return await verifyPeakMiB(server.entry, file);
  } finally {
    await node.stop();
    await server.dropDatabase('bench_memory_idle');
  }
}
