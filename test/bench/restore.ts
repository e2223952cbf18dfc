import { join } from 'node:path';
import { fillState } from '../setup/server/filled-state.ts';
import { applyMigrations } from '../setup/server/migrations.ts';
import { copyIn, dumpTables } from './copy.ts';
import { timed } from './figures.ts';
import { type BenchOptions, entryCounts, type Figure } from './results.ts';
import { type BenchServer, withBenchServer } from './server.ts';
import { sendRestore, takeBackup } from './size/transfers.ts';

const DOCUMENTS = 2_000;
const DOCUMENT_BYTES = 2_000;

/**
 * Measures a restore into an empty database against COPY of the same rows into the same tables with their indexes, in
 * one transaction. The rows are in files, in the order of the tables that they come from. Also measures the plan of
 * that restore. Autovacuum is off during the run.
 */
export async function benchmarkRestore({ full, entries }: BenchOptions): Promise<Figure[]> {
  const count = entries ?? (full ? 200_000 : Math.max(...entryCounts({ full, entries })));
  return withBenchServer(async (server) => measure(server, count), { autovacuum: 'off' });
}

async function measure(server: BenchServer, entries: number): Promise<Figure[]> {
  const label = `${entries.toLocaleString('en')} entries, ${DOCUMENTS.toLocaleString('en')} documents`;
  const file = join(server.directory, 'backup.json');
  await prepare(server, { file, entries });
  const copied = await onDatabase(server, (url) => copyIn(url, server.directory));
  const restored = await onNode(server, (nodeUrl) => sendRestore(nodeUrl, file));
  const planned = await onNode(server, (nodeUrl) => sendRestore(nodeUrl, file, { dryRun: true }));
  if (restored.answer.imported_audit_count !== entries) throw new Error(JSON.stringify(restored.answer));
  const goal = entries === 200_000 ? { goal: { atMost: 1.8 } } : {};
  const ratio = (seconds: number): number => seconds / copied.seconds;
  const comparedWith = 'COPY into the same indexed tables';
  return [
    {
      name: `restore into an empty database, ${label}`,
      value: ratio(restored.seconds),
      unit: '×',
      comparedWith,
      ...goal,
    },
    { name: `plan of that restore, ${label}`, value: ratio(planned.seconds), unit: '×', comparedWith },
    { name: `time of that restore, ${label}`, value: restored.seconds, unit: 's' },
    { name: `time of that COPY, ${label}`, value: copied.seconds, unit: 's' },
  ];
}

/** Writes a backup, and the rows of its tables, into the server's directory. */
async function prepare(server: BenchServer, { file, entries }: { file: string; entries: number }): Promise<void> {
  const url = await server.createDatabase('bench_source');
  await fillState(url, { documents: DOCUMENTS, documentBytes: DOCUMENT_BYTES, entries });
  await dumpTables(url, server.directory);
  const node = await server.startNode(url);
  await takeBackup(node.url, file);
  await node.stop();
  await server.dropDatabase('bench_source');
}

/** Measures work on a new database with empty tables, with nothing left to write from before. */
async function onDatabase<T>(server: BenchServer, work: (url: string) => Promise<T>) {
  const url = await server.createDatabase('bench_target');
  await applyMigrations(url);
  await server.checkpoint();
  const measured = await timed(() => work(url));
  await server.dropDatabase('bench_target');
  return measured;
}

async function onNode<T>(server: BenchServer, work: (nodeUrl: string) => Promise<T>) {
  const url = await server.createDatabase('bench_target');
  const node = await server.startNode(url);
  await server.checkpoint();
  try {
    return await timed(() => work(node.url));
  } finally {
    await node.stop();
    await server.dropDatabase('bench_target');
  }
}
