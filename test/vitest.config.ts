import { spawnSync } from 'node:child_process';
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

/**
 * Maps the modes of a run to their commands, on every operating system. `soak` selects the full depth: see
 * `setup/depth.ts`. `pgbouncer` and `roles` change how nodes reach their databases: see `setup/roles`.
 */
const commands: Record<string, string> = {
  soak: 'npm run soak',
  pgbouncer: 'npm run test:pgbouncer',
  roles: 'npm run test:roles',
  'soak-pgbouncer': 'npm run soak:pgbouncer',
  'soak-roles': 'npm run soak:roles',
};

/**
 * Returns the options of V8 for the processes of a quick run: V8 optimizes only functions that run long, which takes
 * half as much of the CPU time. Node does not document the option, so a version without it runs without it.
 */
function quickExecArgv(): string[] {
  const options = ['--interrupt-budget=270000'];
  const { status } = spawnSync(process.execPath, [...options, '--eval', ''], { stdio: 'ignore' });
  return status === 0 ? options : [];
}

// Vitest asks for a default export here; `tidy.test.ts` knows this one exception.
export default defineConfig(({ mode }) => {
  const chosen = mode.split('-');
  const runDepth = chosen.includes('soak') ? 'full' : depth;
  const usesPooler = chosen.includes('pgbouncer') || process.env.LOOM_TEST_PGBOUNCER === '1';
  const usesRoles = chosen.includes('roles') || process.env.LOOM_TEST_ROLES === '1';
  const ways = { ...(usesPooler && { LOOM_TEST_PGBOUNCER: '1' }), ...(usesRoles && { LOOM_TEST_ROLES: '1' }) };
  // The process that prepares the run reads them, too.
  Object.assign(process.env, ways);
  const root = fileURLToPath(new URL('..', import.meta.url));
  // Vitest adds reporters by the command line instead of the ones in this file. A plugin adds the report to either.
  const shared = {
    root,
    plugins: [createRunReport({ root, command: commands[mode] ?? 'npm test', depth: runDepth })],
  };
  const options = {
    env: { LOOM_TEST_DEPTH: runDepth, LOOM_TEST_SEED: String(runSeed), ...ways },
    setupFiles: [
      'test/setup/run/property-seed.ts',
      'test/setup/run/described-answers.ts',
      'test/setup/run/described-fetch.ts',
      'test/setup/run/session-tests.ts',
    ],
    pool: 'forks' as const,
    isolate: false,
    execArgv: runDepth === 'full' ? [] : quickExecArgv(),
    maxWorkers: 2,
    // PgBouncer lets a client wait for a server that is away, so a node waits for its own deadline each time.
    testTimeout: usesPooler ? 300_000 : 30_000,
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
