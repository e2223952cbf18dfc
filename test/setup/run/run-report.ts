import { relative } from 'node:path';
import type { Reporter, TestModule, Vite, VitestPluginContext } from 'vitest/node';
import { type Depth, runSeed } from '../depth.ts';

const shownFiles = 10;

interface RunReportOptions {
  /** Folder that paths are shown from. */
  root: string;
  /** Runs the tests at the run's depth. */
  command: string;
  depth: Depth;
}

/** Returns a plugin that prints the slowest files after a run and, after a failure, the command that repeats it. */
export function createRunReport({ root, command, depth }: RunReportOptions): Vite.Plugin {
  const onTestRunEnd = (modules: readonly TestModule[]): void => {
    const files = modules.map((module) => {
      const { collectDuration, setupDuration, duration } = module.diagnostic();
      return { path: relative(root, module.moduleId), ok: module.ok(), ms: collectDuration + setupDuration + duration };
    });
    const slowest = files.toSorted((left, right) => right.ms - left.ms).slice(0, shownFiles);
    print(
      `Slowest files at ${depth} depth`,
      slowest.map(({ path, ms }) => `${(ms / 1000).toFixed(1).padStart(7)} s  ${path}`),
    );
    const failed = files.filter(({ ok }) => !ok).map(({ path }) => path);
    if (failed.length === 0) return;
    print('To repeat the random choices', [`  LOOM_TEST_SEED=${runSeed} ${command} -- ${failed.join(' ')}`]);
  };
  const reporter: Reporter = { onTestRunEnd };
  return {
    name: 'loom-run-report',
    configureVitest({ vitest }: VitestPluginContext) {
      // Vitest calls this once for each project.
      if (!vitest.config.reporters.includes(reporter)) vitest.config.reporters.push(reporter);
    },
  };
}

function print(title: string, lines: string[]): void {
  process.stdout.write(`\n${title}:\n${lines.join('\n')}\n`);
}
