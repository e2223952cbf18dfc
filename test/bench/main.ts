import { benchmarkCommit } from './commit.ts';
import { benchmarkLockHold } from './lock-hold.ts';
import { benchmarkMerge } from './merge.ts';
import { benchmarkFailover, benchmarkFairness } from './outage.ts';
import { benchmarkTransfer } from './transfer.ts';

const benchmarks: Record<string, () => Promise<void>> = {
  commit: benchmarkCommit,
  transfer: benchmarkTransfer,
  fairness: benchmarkFairness,
  failover: benchmarkFailover,
  'lock-hold': benchmarkLockHold,
  merge: benchmarkMerge,
};

/** Runs the named benchmarks, or all. Compare only figures of the same run, because machines and their loads differ. */
async function main(names: string[]): Promise<void> {
  for (const name of names.length > 0 ? names : Object.keys(benchmarks)) {
    const benchmark = benchmarks[name];
    if (benchmark === undefined) {
      throw new Error(`Unknown benchmark "${name}". Benchmarks: ${Object.keys(benchmarks).join(', ')}.`);
    }
    process.stdout.write(`== ${name}\n`);
    await benchmark();
  }
}

await main(process.argv.slice(2));
