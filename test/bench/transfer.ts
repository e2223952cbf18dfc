import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { openRestoreBody } from '../../src/cli/client/restore-body.ts';
import { runProgram } from '../../src/dev/processes.ts';
import type { RestoreReport } from '../../src/domain/backup.ts';
import { createNodeClient, type NodeClient } from '../../src/http/client/client.ts';
import { applyMigrations } from '../setup/server/migrations.ts';
import { DOCUMENTS, ENTRIES, nameOf, writeBackupFiles } from './backup-file.ts';
import { copyIn, copyOut, dumpTables, hashFile, nowhere } from './copy.ts';
import { quantile, type Series, seriesOf, showSeries, showTable, timed } from './figures.ts';
import { commit, type Meanwhile, meanwhile, peakMemoryBytes } from './meanwhile.ts';
import { type BenchServer, execute, TOKEN, withBenchServer } from './server.ts';

const ROUNDS = 3;
const FEW_CHANGES = 20;
const TEMPLATE = 'bench_template';

/** Paths of the two backups and of the rows for COPY. */
interface Files {
  backup: string;
  /** A backup with the same trail, in which every document differs. */
  changed: string;
  /** Size of each backup. */
  bytes: number;
  rows: string;
}

/** The measurements of one round, in seconds unless the name has another unit. */
interface Round {
  copyIn: number;
  copyOut: number;
  hash: number;
  backup: number;
  adopt: number;
  few: number;
  undo: number;
  verify: number;
  fewMeanwhile: Meanwhile<RestoreReport>;
  allMeanwhile: Meanwhile<RestoreReport>;
  idleBytes: number | undefined;
  peakBytes: number | undefined;
}

/**
 * Measures backup, restore, undo and verify of a state of about 70 MB. Compares each with the minimum that PostgreSQL
 * or the disk needs for the same bytes. Also measures the effect of a restore on other clients. Autovacuum is off;
 * vacuum runs between the measurements instead.
 */
export async function benchmarkTransfer(): Promise<void> {
  await withBenchServer(
    async (server) => {
      const files = await prepare(server);
      const rounds: Round[] = [];
      for (let index = 1; index <= ROUNDS; index += 1) rounds.push(await runRound(server, files, index));
      print(rounds, files.bytes);
    },
    { autovacuum: 'off' },
  );
}

async function prepare(server: BenchServer): Promise<Files> {
  const backup = join(server.directory, 'backup.json');
  const changed = join(server.directory, 'changed.json');
  const { bytes } = await writeBackupFiles(backup, changed);
  const files = { backup, changed, bytes, rows: server.directory };
  await applyMigrations(await server.createDatabase(TEMPLATE));
  await onNode(server, 'bench_rows', async ({ url, client }) => {
    await restore(client, backup);
    await dumpTables(url, files.rows);
  });
  return files;
}

interface BenchNode {
  /** URL of the database. */
  url: string;
  nodeUrl: string;
  pid: number;
  client: NodeClient;
}

/** Runs `use` with a node on a new, empty database. */
async function onNode<T>(server: BenchServer, database: string, use: (node: BenchNode) => Promise<T>): Promise<T> {
  const url = await server.createDatabase(database, TEMPLATE);
  const node = await server.startNode(url);
  const client = createNodeClient({ url: node.url, token: TOKEN });
  try {
    return await use({ url, nodeUrl: node.url, pid: node.pid, client });
  } finally {
    await client.close();
    await node.stop();
    await server.dropDatabase(database);
  }
}

async function runRound(server: BenchServer, files: Files, index: number): Promise<Round> {
  const seconds = async (work: () => Promise<unknown>): Promise<number> => {
    await server.checkpoint();
    return (await timed(work)).seconds;
  };
  const copied = await server.createDatabase(`bench_copy_${index}`, TEMPLATE);
  const copyInSeconds = await seconds(() => copyIn(copied, files.rows));
  await server.dropDatabase(`bench_copy_${index}`);
  const onDisk = {
    hash: await seconds(() => hashFile(files.backup)),
    verify: await seconds(() => verifyFile(server.entry, files.backup)),
  };
  return onNode(server, `bench_node_${index}`, async ({ url, nodeUrl, pid, client }) => {
    const idleBytes = await peakMemoryBytes(pid);
    const adopt = await seconds(async () => expectDocuments(await restore(client, files.backup), 'added', DOCUMENTS));
    await execute(url, 'vacuum analyze');
    const copyOutSeconds = await seconds(() => copyOut(url));
    const backup = await seconds(() => readBackup(client));
    for (let change = 0; change < FEW_CHANGES; change += 1) await commit(nodeUrl, nameOf(change));
    const few = await seconds(async () => expectDocuments(await restore(client, files.backup), 'changed', FEW_CHANGES));
    const undo = await seconds(() => client.undo({}));
    await server.checkpoint();
    const allMeanwhile = await meanwhile(nodeUrl, () => restore(client, files.changed));
    expectDocuments(allMeanwhile.answer, 'changed', DOCUMENTS);
    await execute(url, 'vacuum analyze');
    await server.checkpoint();
    const fewMeanwhile = await meanwhile(nodeUrl, () => restore(client, files.changed));
    expectDocuments(fewMeanwhile.answer, 'unchanged', DOCUMENTS);
    const peakBytes = await peakMemoryBytes(pid);
    const here = { adopt, backup, few, undo, fewMeanwhile, allMeanwhile, idleBytes, peakBytes };
    return { copyIn: copyInSeconds, copyOut: copyOutSeconds, ...onDisk, ...here };
  });
}

async function restore(client: NodeClient, path: string): Promise<RestoreReport> {
  const { body, isGzip } = await openRestoreBody({ path }, {}, () => undefined);
  return client.restore(body, isGzip);
}

/** Checks that a restore did the work that its figure measures. */
function expectDocuments({ documents }: RestoreReport, what: keyof RestoreReport['documents'], expected: number): void {
  if (documents[what] !== expected) throw new Error(`Expected ${expected} ${what}: ${JSON.stringify(documents)}`);
}

async function readBackup(client: NodeClient): Promise<void> {
  const { body } = await client.openBackup();
  await pipeline(body, nowhere());
}

async function verifyFile(entry: string, path: string): Promise<void> {
  const { code, output } = await runProgram(process.execPath, [entry, 'verify', path]);
  if (code !== 0) throw new Error(`verify failed: ${output}`);
}

function print(rounds: Round[], bytes: number): void {
  const of = (figure: (round: Round) => number): Series => seriesOf(rounds.map(figure));
  const compare = (what: string, loom: keyof Round, other: keyof Round, otherName: string): string[] => {
    const [ours, theirs] = [of((round) => Number(round[loom])), of((round) => Number(round[other]))];
    const ratio = of((round) => Number(round[loom]) / Number(round[other]));
    const absolute = `${ours.median.toFixed(2)} s, ${theirs.median.toFixed(2)} s`;
    return [what, `${showSeries(ratio, 2)} ×`, otherName, absolute];
  };
  const waits = (what: string, which: 'fewMeanwhile' | 'allMeanwhile'): string[] => {
    const share = of(({ [which]: seen }) => (100 * seen.longestCommitSeconds) / seen.seconds);
    const [longest, whole] = [of((round) => round[which].longestCommitSeconds), of((round) => round[which].seconds)];
    const absolute = `${longest.median.toFixed(2)} s, ${whole.median.toFixed(2)} s`;
    return [what, `${showSeries(share, 0)} %`, 'that restore', absolute];
  };
  const memory = (what: string, of: (round: Round) => number): string[] => {
    const peak = seriesOf(rounds.map(of));
    return [
      what,
      `${showSeries(seriesOf(rounds.map((round) => (100 * of(round)) / bytes)), 0)} %`,
      'the backup',
      `${(peak.median / 1e6).toFixed(0)} MB, ${(bytes / 1e6).toFixed(0)} MB`,
    ];
  };
  const megabytes = (bytes / 1e6).toFixed(0);
  process.stdout.write(
    `${DOCUMENTS} documents and ${ENTRIES} audit entries, ${megabytes} MB; ${ROUNDS} rounds, median and spread\n` +
      showTable([
        ['measured', 'ratio', 'compared with', 'medians'],
        compare('backup over HTTP', 'backup', 'copyOut', 'COPY of the rows to stdout'),
        compare('restore into an empty database', 'adopt', 'copyIn', 'COPY of the rows from stdin'),
        compare(`restore after ${FEW_CHANGES} changes`, 'few', 'copyIn', 'COPY of the rows from stdin'),
        compare('undo of that', 'undo', 'few', 'that restore'),
        compare('verify of the file', 'verify', 'hash', 'its sha256'),
        waits('longest wait of a commit, restore that changes nothing', 'fewMeanwhile'),
        waits('longest wait of a commit, restore that changes all', 'allMeanwhile'),
        memory('peak memory of the node', ({ peakBytes = Number.NaN }) => peakBytes),
        memory(
          'growth of that since the start',
          ({ peakBytes = Number.NaN, idleBytes = Number.NaN }) => peakBytes - idleBytes,
        ),
      ]) +
      readyLine(rounds.flatMap((round) => [round.fewMeanwhile, round.allMeanwhile])),
  );
}

/** Returns absolute figures, because the promise is absolute. */
function readyLine(seen: Meanwhile<unknown>[]): string {
  const ready = seen.flatMap(({ readySeconds }) => readySeconds).sort((one, other) => one - other);
  const [p99, longest] = [quantile(ready, 0.99), quantile(ready, 1)].map(milliseconds);
  const own = milliseconds(Math.max(...seen.map(({ ownDelaySeconds }) => ownDelaySeconds)));
  const measured = `/ready during those restores: p99 ${p99}, longest ${longest}, of ${ready.length}`;
  return `${measured}; the measuring process itself was late by ${own} at p99\n`;
}

function milliseconds(seconds: number): string {
  return `${(seconds * 1000).toFixed(0)} ms`;
}
