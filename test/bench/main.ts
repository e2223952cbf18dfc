import { parseArgs } from 'node:util';
import { benchmarkLockHold } from './bounds/lock-hold.ts';
import { benchmarkMerge } from './bounds/merge.ts';
import { benchmarkFailover, benchmarkFairness } from './bounds/outage.ts';
import { benchmarkCommit } from './commit.ts';
import { benchmarkLone } from './requests/lone.ts';
import { benchmarkRead, benchmarkReady } from './requests/requests.ts';
import { benchmarkRestore } from './restore.ts';
import {
  type BenchOptions,
  combineRuns,
  type Figure,
  type FigureSeries,
  showMarkdown,
  showResults,
  updatePage,
  writeResults,
} from './results.ts';
import { benchmarkBackup } from './size/backup.ts';
import { benchmarkEncrypt } from './size/encrypt.ts';
import { benchmarkFlat } from './size/flat.ts';
import { benchmarkMemory } from './size/memory.ts';
import { benchmarkPatch } from './size/patch.ts';
import { benchmarkStored } from './size/stored.ts';
import { benchmarkVerifyFile } from './size/verify-file.ts';
import { benchmarkWaits } from './size/waits.ts';
import { benchmarkTransfer } from './transfer.ts';
import { benchmarkVerify } from './verify.ts';

/** A benchmark returns figures, which are combined over the runs, or prints its own tables. */
type Benchmark = (options: BenchOptions) => Promise<Figure[] | undefined> | Promise<void>;

const benchmarks: Record<string, Benchmark> = {
  commit: benchmarkCommit,
  lone: benchmarkLone,
  ready: benchmarkReady,
  read: benchmarkRead,
  backup: benchmarkBackup,
  verify: benchmarkVerify,
  'verify-file': benchmarkVerifyFile,
  transfer: benchmarkTransfer,
  restore: benchmarkRestore,
  encrypt: benchmarkEncrypt,
  fairness: benchmarkFairness,
  failover: benchmarkFailover,
  'lock-hold': benchmarkLockHold,
  merge: benchmarkMerge,
  flat: benchmarkFlat,
  patch: benchmarkPatch,
  memory: benchmarkMemory,
  waits: benchmarkWaits,
  stored: benchmarkStored,
};

const usage = `npm run bench -- [NAME ...] [--runs N] [--json FILE] [--full | --entries N]
npm run bench -- --markdown FILE ... [--page PAGE]    prints the tables of JSON files, or replaces their tables on the page
Benchmarks: ${Object.keys(benchmarks).join(', ')}. Without a name, all run.
`;

/** Runs the named benchmarks, or all. Compare only figures of the same run, because machines and their loads differ. */
async function main(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      runs: { type: 'string', default: '1' },
      json: { type: 'string' },
      markdown: { type: 'boolean', default: false },
      page: { type: 'string' },
      full: { type: 'boolean', default: false },
      entries: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return void process.stdout.write(usage);
  if (values.markdown && values.page !== undefined) return updatePage(values.page, positionals);
  if (values.markdown) return void process.stdout.write(await showMarkdown(positionals));
  const runs = readCount('runs', values.runs);
  const entries = values.entries === undefined ? undefined : readCount('entries', values.entries);
  const results: Record<string, FigureSeries[]> = {};
  for (const name of positionals.length > 0 ? positionals : Object.keys(benchmarks)) {
    const benchmark = benchmarks[name];
    if (benchmark === undefined) throw new Error(`Unknown benchmark "${name}".\n${usage}`);
    const figures: Figure[][] = [];
    for (let run = 1; run <= runs; run += 1) {
      process.stdout.write(`== ${name}${runs > 1 ? `, run ${run} of ${runs}` : ''}\n`);
      figures.push((await benchmark({ full: values.full, entries })) ?? []);
      if (runs > 1) process.stdout.write(showResults(combineRuns(figures.slice(-1))));
    }
    const series = combineRuns(figures);
    if (series.length > 0) process.stdout.write(`${showResults(series)}\n`);
    results[name] = series;
    // Written after each benchmark, so that an interrupted run keeps its figures.
    if (values.json !== undefined) await writeResults(values.json, results);
  }
}

function readCount(option: string, text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1) throw new Error(`--${option} is "${text}". Give a number from 1.`);
  return count;
}

await main(process.argv.slice(2));
