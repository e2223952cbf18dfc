import type { createMetrics } from '../../../src/metrics.ts';

type Watched = Parameters<ReturnType<typeof createMetrics>['watch']>[0];

/** What the metrics of an idle node that is ready read, without a database. */
export const idleNode = {
  observe: () => ({
    queueDepth: 0,
    pool: { total: 1, idle: 1, waiting: 0, max: 10, streams: { used: 0, max: 5 } },
    operations: [],
    lastChainCheck: null,
  }),
  readiness: () => ({ ok: true, checks: { http: 'ok', database: 'ok', schema: 'ok' } }),
  readHead: () => Promise.resolve(undefined),
} satisfies Partial<Watched>;
