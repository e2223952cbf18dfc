import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createEphemeralKey } from '../../../src/backup/stored/encryption.ts';
import { filledName, fillState } from '../../setup/server/filled-state.ts';
import { timed } from '../figures.ts';
import { type LoadRequest, loadWithoutErrors, startLoad } from '../load.ts';
import { ask } from '../meanwhile.ts';
import type { BenchOptions, Figure } from '../results.ts';
import { type BenchServer, TOKEN, withBenchServer } from '../server.ts';
import { meterMemory } from './transfers.ts';

const MiB = 2 ** 20;
const DOCUMENTS = 10_000;
const DOCUMENT_BYTES = 4_000;
const CLIENTS = 32;
const SECONDS = 6;
const MAX_LOAD_SECONDS = 3_600;
const POLL_MS = 500;

const token = { 'x-loom-admin-token': TOKEN };

/**
 * Measures a run that writes a stored backup and proves it: its time, the growth of the node's memory, and the rate of
 * commits meanwhile. Once in plain text, once encrypted. Needs Linux.
 */
export async function benchmarkStored({ full, entries }: BenchOptions): Promise<Figure[]> {
  const count = entries ?? (full ? 1_000_000 : 20_000);
  const { recipient } = await createEphemeralKey();
  return await withBenchServer(async (server) => {
    // The commits of the first half would make the second half larger, so each has a copy.
    const filled = 'bench_stored_filled';
    await fillState(await server.createDatabase(filled), {
      documents: DOCUMENTS,
      documentBytes: DOCUMENT_BYTES,
      entries: count,
    });
    const label = `${count.toLocaleString('en')} entries`;
    const encrypted = { LOOM_BACKUP_RECIPIENTS: recipient };
    return [
      ...(await measure(server, await server.createDatabase('bench_stored', filled), label, {})),
      ...(await measure(server, await server.createDatabase('bench_stored', filled), `${label}, encrypted`, encrypted)),
    ];
  });
}

async function measure(
  server: BenchServer,
  databaseUrl: string,
  label: string,
  settings: Record<string, string>,
): Promise<Figure[]> {
  const directory = join(server.directory, 'store');
  await mkdir(directory);
  const env = { LOOM_BACKUP_STORE: `file://${directory}`, LOOM_DRILL_SCHEDULE: '0 0 1 1 *', ...settings };
  // Without an earlier run, the node would begin one by itself.
  const node = await server.startNode(databaseUrl, { ...env, LOOM_BACKUP_SCHEDULE: '0 0 1 1 *' });
  try {
    // The first run begins at once: the memory grows most in it.
    const meter = await meterMemory(node.pid);
    await waitForIdle(node.url);
    const { seconds, answer } = await timed(() => takeBackup(node.url));
    const growth = await meter.growthMiB();
    const rates = await commitRates(server, node.url);
    return [
      { name: `size of the stored backup, ${label}`, value: answer.bytes / MiB, unit: 'MiB' },
      { name: `run with its proof, ${label}`, value: seconds, unit: 's' },
      { name: `restore in the proof, ${label}`, value: answer.restoreSeconds, unit: 's' },
      { name: `memory of a run, ${label}`, value: growth, unit: 'MiB', goal: { atMost: 128 } },
      {
        name: `commits during a run, ${CLIENTS} clients, ${label}`,
        value: rates.during / rates.alone,
        unit: '×',
        comparedWith: 'their rate alone, before and after',
        goal: { atLeast: 0.6 },
      },
    ];
  } finally {
    await node.stop();
    await rm(directory, { recursive: true });
  }
}

interface StoredStatus {
  /** Null while the database does not answer in time. */
  running: unknown[] | null;
  last_success_at: string | null;
  last_bytes: number;
  last_restore_seconds: number;
  last_failure: object | null;
}

async function readStatus(url: string): Promise<StoredStatus> {
  const answer = await fetch(`${url}/v1/admin/status`, { headers: token });
  return ((await answer.json()) as { stored_backups: StoredStatus }).stored_backups;
}

/** Waits until the node has made its first run, and no other one. */
async function waitForIdle(url: string): Promise<void> {
  for (;;) {
    const { running, last_success_at: at } = await readStatus(url);
    if (running?.length === 0 && at !== null) return;
    await sleep(POLL_MS);
  }
}

/** Takes a backup, and waits until it is proven. */
async function takeBackup(url: string): Promise<{ bytes: number; restoreSeconds: number }> {
  const { last_success_at: before } = await readStatus(url);
  if (before === null) throw new Error('the database does not answer, so the end of the run could not be recognized');
  await ask(`${url}/v1/admin/backups`, { method: 'POST', headers: token });
  for (;;) {
    await sleep(POLL_MS);
    const status = await readStatus(url);
    if (status.running?.length !== 0) continue;
    if (status.last_success_at === before) throw new Error(`the run failed: ${JSON.stringify(status.last_failure)}`);
    return { bytes: status.last_bytes, restoreSeconds: status.last_restore_seconds };
  }
}

/** Measures the rates of commits alone, before and after a run, and during it. */
async function commitRates(server: BenchServer, url: string): Promise<{ alone: number; during: number }> {
  const requests = Array.from({ length: DOCUMENTS }, (_, index): LoadRequest => {
    const headers = { ...token, 'content-type': 'application/json' };
    return { method: 'PUT', path: `/v1/documents/${filledName(index)}`, headers, body: `{"changed":${index}}` };
  });
  const options = { url, clients: CLIENTS, requests };
  const measureAlone = async (): Promise<number> => {
    await loadWithoutErrors({ ...options, seconds: 2 });
    await server.checkpoint();
    return (await loadWithoutErrors({ ...options, seconds: SECONDS })).requestsPerSecond;
  };
  const before = await measureAlone();
  const load = await startLoad({ ...options, seconds: MAX_LOAD_SECONDS });
  await takeBackup(url);
  load.stop();
  const during = await load.result;
  if (during.non2xx > 0) throw new Error(`${during.non2xx} commits failed during the run`);
  return { alone: (before + (await measureAlone())) / 2, during: during.requestsPerSecond };
}
