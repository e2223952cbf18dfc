import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Readiness } from './domain/readiness.ts';
import type { StateHead } from './domain/state.ts';
import type { RunningOperation, StoreObservation } from './domain/store.ts';

/** Provides the values of the gauges at each scrape. */
export interface MetricSources {
  observe(): StoreObservation;
  readiness(): Readiness;
  /** Resolves quickly, to undefined if the database does not answer. */
  readHead(): Promise<StateHead | undefined>;
}

/** Distinguishes a bad request (`refused`), a disconnected client (`aborted`) and a fault of the node (`failed`). */
export type OperationOutcome = 'ok' | 'refused' | 'aborted' | 'failed';

export interface RequestMeasure {
  method: string;
  /** The route's pattern. A path contains a document's name, so paths would create endless series. */
  route: string;
  status: number;
  durationMs: number;
}

export interface Metrics {
  countRequest(measure: RequestMeasure): void;
  /** Counts a committed batch. The group commit calls this as `onBatch`. */
  countBatch(batch: { commits: number; durationMs: number }): void;
  /** Counts a finished operation. The store calls this as `onOperation`. */
  countOperation(kind: RunningOperation['kind'], outcome: OperationOutcome): void;
  /** Adds the gauges. A scrape before this call has only counters. */
  watch(sources: MetricSources): void;
  /** Returns all series in Prometheus' text format. */
  scrape(): Promise<{ contentType: string; text: string }>;
  close(): void;
}

/** Creates the series of a node in a separate registry, so that two nodes in one process do not share series. */
export function createMetrics({ droppedLines = () => 0 }: { droppedLines?: () => number } = {}): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const counters = createCounters(registry);
  createDroppedLinesCounter(registry, droppedLines);
  let updateGauges: (() => Promise<void>) | undefined;

  return {
    ...counters,
    watch: (sources) => {
      updateGauges ??= createGauges(registry, sources);
    },
    scrape: async () => {
      await updateGauges?.();
      return { contentType: registry.contentType, text: await registry.metrics() };
    },
    close: () => registry.clear(),
  };
}

/** Lists every kind of operation. The compiler reports a missing one. */
const operationKinds = Object.keys({
  backup: true,
  restore: true,
  plan: true,
  undo: true,
  verify: true,
} satisfies Record<RunningOperation['kind'], true>);

/** Doubles each boundary, roughly, because a commit takes milliseconds and a restore minutes. */
const secondsBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60];
const batchBuckets = [1, 2, 4, 8, 16, 32, 64, 128];

function createCounters(registry: Registry): Pick<Metrics, 'countRequest' | 'countBatch' | 'countOperation'> {
  const registers = [registry];
  const requests = new Histogram({
    name: 'loom_http_request_duration_seconds',
    help: 'Time from the request head to the last byte of the response.',
    labelNames: ['method', 'route', 'status'],
    buckets: secondsBuckets,
    registers,
  });
  const commits = new Counter({ name: 'loom_commits_total', help: 'Commits made by this node.', registers });
  const batchSize = new Histogram({
    name: 'loom_commit_batch_size',
    help: 'Commits in one transaction.',
    buckets: batchBuckets,
    registers,
  });
  const batchDuration = new Histogram({
    name: 'loom_commit_batch_duration_seconds',
    help: 'Duration of one transaction of commits.',
    buckets: secondsBuckets,
    registers,
  });
  const operations = new Counter({
    name: 'loom_operations_total',
    help: 'Finished backups, restores, undos, plans (dry runs) and verifications of this node, by outcome.',
    labelNames: ['kind', 'outcome'],
    registers,
  });
  for (const kind of operationKinds) {
    // Each series exists from the start, so that the first failure shows as an increase.
    for (const outcome of ['ok', 'refused', 'aborted', 'failed']) operations.inc({ kind, outcome }, 0);
  }
  return {
    countRequest: ({ method, route, status, durationMs }) =>
      requests.observe({ method, route, status: String(status) }, durationMs / 1000),
    countBatch: ({ commits: size, durationMs }) => {
      commits.inc(size);
      batchSize.observe(size);
      batchDuration.observe(durationMs / 1000);
    },
    countOperation: (kind, outcome) => operations.inc({ kind, outcome }),
  };
}

function createDroppedLinesCounter(registry: Registry, droppedLines: () => number): void {
  new Counter({
    name: 'loom_log_lines_dropped_total',
    help: 'Log lines that the node dropped because standard output did not accept them.',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(droppedLines());
    },
  });
}

function createGauges(registry: Registry, sources: MetricSources): () => Promise<void> {
  const gauge = (name: string, help: string): Gauge => new Gauge({ name, help, registers: [registry] });
  const ready = gauge('loom_ready', '1 when /ready answers 200.');
  const databaseOk = gauge('loom_database_ok', '1 when the last checks of the database succeeded.');
  const chainOk = gauge(
    'loom_audit_chain_ok',
    '1 when the last check by this node found a valid audit chain, 0 when it found a broken one, NaN before the first.',
  );
  const queueDepth = gauge('loom_commit_queue_depth', 'Commits that are waiting or in flight.');
  const running = gauge('loom_operations_running', 'Backups, restores, undos, plans and verifications in progress.');
  const pool = new Gauge({
    name: 'loom_pool_connections',
    help: 'Connections to PostgreSQL by condition; "waiting" counts requests for a connection.',
    labelNames: ['condition'],
    registers: [registry],
  });
  const updateHead = createHeadGauges(gauge);
  return async () => {
    const readiness = sources.readiness();
    ready.set(readiness.ok ? 1 : 0);
    databaseOk.set(readiness.checks.database === 'ok' ? 1 : 0);
    const observation = sources.observe();
    const { lastChainCheck } = observation;
    chainOk.set(lastChainCheck === null ? Number.NaN : Number(lastChainCheck.ok));
    queueDepth.set(observation.queueDepth);
    running.set(observation.operations.length);
    for (const [condition, count] of Object.entries(observation.pool)) pool.set({ condition }, count);
    updateHead(await sources.readHead());
  };
}

/** Creates the gauges with values from the database. NaN means "unknown", because an old value would look current. */
function createHeadGauges(gauge: (name: string, help: string) => Gauge): (head: StateHead | undefined) => void {
  const revision = gauge('loom_state_revision', 'Revision of the state.');
  const documents = gauge('loom_state_documents', 'Documents of the state.');
  const bytes = gauge('loom_state_bytes', 'Size of the canonical text of all documents, in bytes.');
  const auditSeq = gauge('loom_audit_entries', 'Seq of the last audit entry.');
  const backup = gauge('loom_last_backup_timestamp_seconds', 'Time of the last backup; 0 if there was none.');
  const restore = gauge('loom_last_restore_timestamp_seconds', 'Time of the last restore; 0 if there was none.');
  return (head) => {
    revision.set(head?.revision ?? Number.NaN);
    documents.set(head?.documents ?? Number.NaN);
    bytes.set(head?.bytes ?? Number.NaN);
    auditSeq.set(head?.head.seq ?? Number.NaN);
    backup.set(head === undefined ? Number.NaN : secondsOf(head.lastBackupAt));
    restore.set(head === undefined ? Number.NaN : secondsOf(head.lastRestoreAt));
  };
}

function secondsOf(time: string | null): number {
  return time === null ? 0 : Date.parse(time) / 1000;
}
