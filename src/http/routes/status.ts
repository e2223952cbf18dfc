import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { FastifyInstance } from 'fastify';
import type { StateHead } from '../../domain/state.ts';
import type { DatabaseStatus } from '../../domain/store.ts';
import type { UndoRecord } from '../../domain/undo.ts';
import { isLoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { RouteContext } from '../context.ts';
import { operatorRoute } from '../route-config.ts';
import { createTimedReader } from '../timed-reader.ts';

/** Everything that an operator asks first. It answers soon whatever the database does: what only that knows is null then. */
export function registerStatus(app: FastifyInstance, context: RouteContext): void {
  const { store, peekHead } = context;
  const readSchema = createTimedReader(() => store.readSchema());
  const readDatabase = createTimedReader(() => store.readDatabase());
  const readUndoRecords = createTimedReader(() => store.readUndoRecords());
  const readScratchStates = createTimedReader(() => store.readScratchStates());
  const eventLoop = createEventLoopWatch();
  app.addHook('onClose', async () => eventLoop.close());

  app.get('/v1/admin/status', operatorRoute('admin'), async () => {
    const [head, schema, database, snapshots, scratchStates] = await Promise.all([
      peekHead(),
      readSchema().catch(() => undefined),
      readDatabase().then(databaseView, databaseFault),
      readUndoRecords().catch(() => null),
      readScratchStates().catch(() => null),
    ]);
    return {
      ...nodeView(context),
      ...headView(head),
      audit: { entries: head?.head.seq ?? null, head: head?.head ?? null, last_check: store.observe().lastChainCheck },
      schema: {
        version: schema?.schemaVersion ?? null,
        supported: context.node.supportedSchemaVersion,
        compatible_from: schema?.compatibleFrom ?? null,
        pending: schema?.pending.length ?? null,
      },
      database,
      ...activityView(context),
      event_loop: eventLoop.view(),
      memory: memoryView(),
      undo: undoView(snapshots, context.now()),
      scratch_states: scratchStates,
    };
  });
}

function nodeView({ node, config, readiness, now }: RouteContext): Record<string, unknown> {
  return {
    ready: readiness(),
    version: node.version,
    node_version: process.version,
    started_at: node.startedAt.toISOString(),
    uptime_seconds: secondsBetween(node.startedAt, now()),
    state_key: config.postgres.stateKey,
  };
}

function headView(head: StateHead | undefined): Record<string, unknown> {
  return {
    state: {
      revision: head?.revision ?? null,
      epoch: head?.epoch ?? null,
      documents: head?.documents ?? null,
      bytes: head?.bytes ?? null,
      updated_at: head?.updatedAt ?? null,
    },
    last_backup_at: head?.lastBackupAt ?? null,
    last_restore_at: head?.lastRestoreAt ?? null,
  };
}

/** What can be undone, newest first, and what keeping it costs. */
function undoView(snapshots: UndoRecord[] | null, now: Date): Record<string, unknown> {
  const aged = snapshots?.map((one) => ({ ...one, age_seconds: secondsBetween(new Date(one.taken_at), now) }));
  const bytes = snapshots?.reduce((sum, one) => sum + one.bytes, 0);
  return { kept_most: limits.maxUndoRecords, bytes: bytes ?? null, kept: aged ?? null };
}

function secondsBetween(earlier: Date, later: Date): number {
  return Math.max(0, Math.round((later.getTime() - earlier.getTime()) / 1000));
}

function activityView({ store }: RouteContext): Record<string, unknown> {
  const { queueDepth, pool, operations } = store.observe();
  return { pool, queue: { depth: queueDepth, max: limits.maxQueueCommits }, operations };
}

function databaseView({ version, latencyMs }: DatabaseStatus): Record<string, unknown> {
  return { ok: true, version, latency_ms: roundMs(latencyMs) };
}

function databaseFault(error: unknown): Record<string, unknown> {
  return { ok: false, version: null, latency_ms: null, code: isLoomError(error) ? error.code : 'internal' };
}

function memoryView(): Record<string, number> {
  const { rss, heapUsed, heapTotal, external } = process.memoryUsage();
  return { rss_bytes: rss, heap_used_bytes: heapUsed, heap_total_bytes: heapTotal, external_bytes: external };
}

const WINDOW_MS = 60_000;

/** How often the histogram looks; what it records is the time between two looks, so an idle loop shows this much. */
const RESOLUTION_MS = 20;

/** How late the event loop was within the last minute or so; since the start it would hide what is wrong now. */
function createEventLoopWatch(): { view(): Record<string, number | null>; close(): void } {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  histogram.enable();
  let before = eventLoopView(histogram);
  const timer = setInterval(() => {
    before = eventLoopView(histogram);
    histogram.reset();
  }, WINDOW_MS);
  timer.unref();
  return {
    view: () => (histogram.count === 0 ? before : eventLoopView(histogram)),
    close: () => {
      clearInterval(timer);
      histogram.disable();
    },
  };
}

function eventLoopView(histogram: IntervalHistogram): Record<string, number | null> {
  const known = histogram.count > 0;
  const ms = (nanoseconds: number): number | null =>
    known ? roundMs(Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS)) : null;
  return {
    delay_mean_ms: ms(histogram.mean),
    delay_p50_ms: ms(histogram.percentile(50)),
    delay_p99_ms: ms(histogram.percentile(99)),
    delay_max_ms: ms(histogram.max),
  };
}

function roundMs(ms: number): number {
  return Math.round(ms * 100) / 100;
}
