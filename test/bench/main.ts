import { parseArgs } from 'node:util';
import { benchmarkLockHold } from './bounds/lock-hold.ts';
import { benchmarkMerge } from './bounds/merge.ts';
import { benchmarkFailover, benchmarkFairness } from './bounds/outage.ts';
import { benchmarkCommit } from './commit.ts';
import {
  type BenchOptions,
  combineRuns,
  type Figure,
  type FigureSeries,
  showMarkdown,
  showResults,
  writeResults,
} from './results.ts';
import { benchmarkFlat } from './size/flat.ts';
import { benchmarkMemory } from './size/memory.ts';
import { benchmarkPatch } from './size/patch.ts';
import { benchmarkWaits } from './size/waits.ts';
import { benchmarkTransfer } from './transfer.ts';

/** A benchmark returns figures, which are combined over the runs, or prints its own tables. */
type Benchmark = (options: BenchOptions) => Promise<Figure[] | undefined> | Promise<void>;

const benchmarks: Record<string, Benchmark> = {
  commit: benchmarkCommit,
  transfer: benchmarkTransfer,
  fairness: benchmarkFairness,
  failover: benchmarkFailover,
  'lock-hold': benchmarkLockHold,
  merge: benchmarkMerge,
  flat: benchmarkFlat,
  patch: benchmarkPatch,
  memory: benchmarkMemory,
  waits: benchmarkWaits,
};

const usage = `npm run bench -- [NAME ...] [--runs N] [--json FILE] [--full]
npm run bench -- --markdown FILE    prints the tables of a JSON file
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
      markdown: { type: 'string' },
      full: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return void process.stdout.write(usage);
  if (values.markdown !== undefined) return void process.stdout.write(await showMarkdown(values.markdown));
  const runs = Number(values.runs);
  if (!Number.isInteger(runs) || runs < 1) throw new Error(`--runs is "${values.runs}". Give a number from 1.`);
  const results: Record<string, FigureSeries[]> = {};
  for (const name of positionals.length > 0 ? positionals : Object.keys(benchmarks)) {
    const benchmark = benchmarks[name];
    if (benchmark === undefined) throw new Error(`Unknown benchmark "${name}".\n${usage}`);
    const figures: Figure[][] = [];
    for (let run = 1; run <= runs; run += 1) {
      process.stdout.write(`== ${name}${runs > 1 ? `, run ${run} of ${runs}` : ''}\n`);
      figures.push((await benchmark({ full: values.full })) ?? []);
      if (runs > 1) process.stdout.write(showResults(combineRuns(figures.slice(-1))));
    }
    const series = combineRuns(figures);
    if (series.length > 0) process.stdout.write(`${showResults(series)}\n`);
    results[name] = series;
    // Written after each benchmark, so that an interrupted run keeps its figures.
    if (values.json !== undefined) await writeResults(values.json, results);
  }
}

await main(process.argv.slice(2));
