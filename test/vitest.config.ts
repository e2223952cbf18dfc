import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

// Vitest asks for a default export here; `tidy.test.ts` knows this one exception.
export default defineConfig({
  root: fileURLToPath(new URL('..', import.meta.url)),
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/setup/global.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 120_000,
    teardownTimeout: 60_000,
  },
});
