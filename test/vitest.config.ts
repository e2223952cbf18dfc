import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { depth, runSeed } from './setup/depth.ts';
import { createRunReport } from './setup/run/run-report.ts';

/**
 * Files of the project `postgres`: all of these folders, and any other file whose name ends in `.postgres.test.ts`. The
 * project starts a PostgreSQL and builds the program once a run. All other files are in the project `pure`, which needs
 * neither: `npx vitest --config test/vitest.config.ts --project pure` takes seconds.
 */
const postgresFiles = [
  'test/{persistence,http,e2e,dev,setup/server}/**/*.test.ts',
  'test/**/*.{postgres,soak}.test.ts',
];

/** These take minutes by themselves, so only a full run has them. They use PostgreSQL. */
const soakFiles = ['test/**/*.soak.test.ts'];

/** `--mode soak` selects the full depth, on every operating system. `setup/depth.ts` explains depth and seed. */
const soakMode = 'soak';

// Vitest asks for a default export here; `tidy.test.ts` knows this one exception.
export default defineConfig(({ mode }) => {
  const runDepth = mode === soakMode ? 'full' : depth;
  const root = fileURLToPath(new URL('..', import.meta.url));
  // Vitest adds reporters by the command line instead of the ones in this file. A plugin adds the report to either.
  const shared = {
    root,
    plugins: [createRunReport({ root, command: runDepth === 'full' ? 'npm run soak' : 'npm test', depth: runDepth })],
  };
  const options = {
    env: { LOOM_TEST_DEPTH: runDepth, LOOM_TEST_SEED: String(runSeed) },
    setupFiles: ['test/setup/run/property-seed.ts', 'test/setup/run/described-fetch.ts'],
    pool: 'forks' as const,
    isolate: false,
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 120_000,
    teardownTimeout: 60_000,
  };
  const pure = { ...options, name: 'pure', include: ['test/**/*.test.ts'], exclude: postgresFiles };
  const postgres = {
    ...options,
    name: 'postgres',
    include: postgresFiles,
    exclude: runDepth === 'full' ? [] : soakFiles,
    // At quick depth, many of these tests wait for a server or a deadline. At full depth, they use the processors.
    maxWorkers: runDepth === 'full' ? 2 : 4,
    globalSetup: ['test/setup/run/postgres.ts'],
    sequence: { groupOrder: 1 },
  };
  return {
    root,
    test: {
      projects: [
        { ...shared, test: pure },
        { ...shared, test: postgres },
      ],
    },
  };
});
