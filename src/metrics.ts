import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { runKinds, runOutcomes, type StoredBackupsObservation } from './domain/backup-run.ts';
import type { Readiness } from './domain/health/readiness.ts';
import type { ObservedHead } from './domain/state.ts';
import type { RunningOperation, StoreObservation, StoreSizes } from './domain/store.ts';

/** Provides the values of the gauges at each scrape. */
export interface MetricSources {
  observe(): StoreObservation;
  readiness(): Readiness;
  /** Resolves quickly, to undefined if the database does not answer. */
  readHead(): Promise<ObservedHead | undefined>;
  /** Resolves quickly, to undefined if the database does not answer. The sizes can be a minute old. */
  readSizes?(): Promise<StoreSizes | undefined>;
  /** Absent without a backup store. Resolves quickly, to undefined if the database does not answer. */
  readStoredBackups?(): Promise<StoredBackupsObservation | undefined>;
}

/** Distinguishes a bad request (`refused`), a disconnected client (`aborted`) and a fault of the node (`failed`). */
export type OperationOutcome = 'ok' | 'refused' | 'aborted' | 'failed';

export interface RequestMeasure {
  method: string;
  /** The route's pattern. A path contains a document's name, so paths would create endless series. */
  route: string;
  status: number;
  durationMs: number;
  /** Whether a tool sends it every few seconds. `/ready` answers 503 by design, so it would hide failing requests. */
  isProbe: boolean;
}

/** Describes the program, as labels of `loom_build_info`. */
export interface BuildInfo {
  version: string;
  nodeVersion: string;
  /** Schema version that this node supports. */
  schema: number;
}

export interface MetricsOptions {
  build?: BuildInfo;
  /** Returns how many log lines were dropped since the start. */
  droppedLines?: () => number;
}

export interface Metrics {
  countRequest(measure: RequestMeasure): void;
  /** Counts a committed batch. The group commit calls this as `onBatch`. */
  countBatch(batch: { commits: number; durationMs: number }): void;
  /** Counts a finished operation. The store calls this as `onOperation`. */
  countOperation(kind: RunningOperation['kind'], outcome: OperationOutcome): void;
  /** Records the size of a backup that was sent, before compression. */
  recordBackup(bytes: number): void;
  /** Adds the gauges. A scrape before this call has only counters. */
  watch(sources: MetricSources): void;
  /** Returns all series in Prometheus' text format. */
  scrape(): Promise<{ contentType: string; text: string }>;
  close(): void;
}

/** Creates the series of a node in a separate registry, so that two nodes in one process do not share series. */
export function createMetrics({ build, droppedLines = () => 0 }: MetricsOptions = {}): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  // Gauges whose names end like those of counters. `nodejs_active_resources` and the others have the same counts.
  for (const name of misnamedGauges) registry.removeSingleMetric(name);
  const counters = createCounters(registry);
  createDroppedLinesCounter(registry, droppedLines);
  if (build !== undefined) createBuildInfo(registry, build);
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

const misnamedGauges = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total'];

/** Lists every kind of operation. The compiler reports a missing one. */
const operationKinds = Object.keys({
  backup: true,
  restore: true,
  plan: true,
  undo: true,
  verify: true,
} satisfies Record<RunningOperation['kind'], true>);

/**
 * Lists classes whose series exist from the start: an alarm on an increase misses the request that creates a series.
 */
const statusClasses = ['2xx', '3xx', '4xx', '5xx'];

/** Doubles each boundary, roughly, because a commit takes milliseconds and a restore minutes. */
const secondsBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60];
const batchBuckets = [1, 2, 4, 8, 16, 32, 64, 128];

function createCounters(
  registry: Registry,
): Pick<Metrics, 'countRequest' | 'countBatch' | 'countOperation' | 'recordBackup'> {
  const registers = [registry];
  const requests = new Histogram({
    name: 'loom_http_request_duration_seconds',
    help: 'Time from the request head to the last byte of the response.',
    labelNames: ['method', 'route', 'status'],
    buckets: secondsBuckets,
    registers,
  });
  const responses = new Counter({
    name: 'loom_http_responses_total',
    help: 'Answers by class of status, without those of /live, /ready and /metrics.',
    labelNames: ['class'],
    registers,
  });
  for (const kind of statusClasses) responses.inc({ class: kind }, 0);
  const backupBytes = new Gauge({
    name: 'loom_last_backup_bytes',
    help: 'Size of the last backup that this node has sent, before compression; NaN before the first.',
    registers,
  });
  backupBytes.set(Number.NaN);
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
    countRequest: ({ method, route, status, durationMs, isProbe }) => {
      requests.observe({ method, route, status: String(status) }, durationMs / 1000);
      if (!isProbe) responses.inc({ class: `${Math.floor(status / 100)}xx` });
    },
    recordBackup: (bytes) => backupBytes.set(bytes),
    countBatch: ({ commits: size, durationMs }) => {
      commits.inc(size);
      batchSize.observe(size);
      batchDuration.observe(durationMs / 1000);
    },
    countOperation: (kind, outcome) => operations.inc({ kind, outcome }),
  };
}

function createBuildInfo(registry: Registry, { version, nodeVersion, schema }: BuildInfo): void {
  const info = new Gauge({
    name: 'loom_build_info',
    help: 'Always 1. The labels are the version of LOOM, the version of Node.js, and the schema that the node supports.',
    labelNames: ['version', 'node_version', 'schema'],
    registers: [registry],
  });
  info.set({ version, node_version: nodeVersion, schema: String(schema) }, 1);
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
    '1 when the last check by this node found the audit trail valid, 0 when it found a fault, NaN before the first.',
  );
  const queueDepth = gauge('loom_commit_queue_depth', 'Commits that are waiting or in flight.');
  const running = gauge('loom_operations_running', 'Backups, restores, undos, plans and verifications in progress.');
  const pool = new Gauge({
    name: 'loom_pool_connections',
    help: 'Connections to PostgreSQL by condition; "waiting" counts requests for a connection.',
    labelNames: ['condition'],
    registers: [registry],
  });
  const streams = new Gauge({
    name: 'loom_pool_streams',
    help: 'Connections that streams use, and the maximum for them.',
    labelNames: ['condition'],
    registers: [registry],
  });
  const updateHead = createHeadGauges(gauge);
  const updateSizes = createSizeGauges(gauge);
  const updateRuns = sources.readStoredBackups && createRunSeries(registry, gauge);
  return async () => {
    const readiness = sources.readiness();
    ready.set(readiness.ok ? 1 : 0);
    databaseOk.set(readiness.checks.database === 'ok' ? 1 : 0);
    const observation = sources.observe();
    const { lastChainCheck } = observation;
    chainOk.set(lastChainCheck === null ? Number.NaN : Number(lastChainCheck.ok));
    queueDepth.set(observation.queueDepth);
    running.set(observation.operations.length);
    const { streams: share, ...connections } = observation.pool;
    for (const [condition, count] of Object.entries(connections)) pool.set({ condition }, count);
    for (const [condition, count] of Object.entries(share)) streams.set({ condition }, count);
    const [head, sizes, runs] = await Promise.all([
      sources.readHead(),
      sources.readSizes?.(),
      sources.readStoredBackups?.(),
    ]);
    updateHead(head);
    updateSizes(sizes);
    updateRuns?.(runs);
  };
}

/** Creates the gauges with values from the database. NaN means "unknown", because an old value would look current. */
function createHeadGauges(gauge: (name: string, help: string) => Gauge): (head: ObservedHead | undefined) => void {
  const revision = gauge('loom_state_revision', 'Revision of the state.');
  const documents = gauge('loom_state_documents', 'Documents of the state.');
  const bytes = gauge('loom_state_bytes', 'Size of the canonical text of all documents, in bytes.');
  const auditSeq = gauge('loom_audit_entries', 'Seq of the last audit entry.');
  const epochChanges = gauge('loom_epoch_changes', 'Epochs started because the database had lost commits.');
  const backup = gauge('loom_last_backup_timestamp_seconds', 'Time of the last backup; 0 if there was none.');
  const restore = gauge('loom_last_restore_timestamp_seconds', 'Time of the last restore; 0 if there was none.');
  return (head) => {
    revision.set(head?.revision ?? Number.NaN);
    documents.set(head?.documents ?? Number.NaN);
    bytes.set(head?.bytes ?? Number.NaN);
    auditSeq.set(head?.head.seq ?? Number.NaN);
    epochChanges.set(head?.epochChanges ?? Number.NaN);
    backup.set(head === undefined ? Number.NaN : secondsOf(head.lastBackupAt));
    restore.set(head === undefined ? Number.NaN : secondsOf(head.lastRestoreAt));
  };
}

function createSizeGauges(gauge: (name: string, help: string) => Gauge): (sizes: StoreSizes | undefined) => void {
  const database = gauge('loom_database_bytes', 'Size of the database on disk, of all states, in bytes.');
  const undo = gauge('loom_undo_records_bytes', 'Size of the undo records of the state, in bytes.');
  return (sizes) => {
    database.set(sizes?.databaseBytes ?? Number.NaN);
    undo.set(sizes?.undoBytes ?? Number.NaN);
  };
}

/** Creates the series of the backup store. The database has their values, so every node shows the same. */
function createRunSeries(
  registry: Registry,
  gauge: (name: string, help: string) => Gauge,
): (runs: StoredBackupsObservation | undefined) => void {
  const success = gauge(
    'loom_backup_last_success_timestamp_seconds',
    'End of the last run that wrote and proved a backup; 0 if there was none.',
  );
  const proven = gauge(
    'loom_backup_last_proven_timestamp_seconds',
    'Time of the newest stored backup that is proven; 0 if there is none.',
  );
  const seconds = gauge(
    'loom_backup_proven_restore_seconds',
    'Time of the last proving restore; NaN if there was none.',
  );
  const bytes = gauge('loom_backup_last_bytes', 'Size of the last proven backup in the store; NaN if there was none.');
  const faulty = gauge('loom_backup_faulty', 'Stored backups of the catalogue that have a fault.');
  const up = gauge('loom_backup_store_up', '1 when the last check of the backup store by this node succeeded, else 0.');
  const total = new Counter({
    name: 'loom_backup_runs_total',
    help: 'Ended runs of backups and drills by all nodes, by kind and outcome.',
    labelNames: ['kind', 'outcome'],
    registers: [registry],
  });
  return (runs) => {
    success.set(runs === undefined ? Number.NaN : secondsOf(runs.lastSuccessAt));
    proven.set(runs === undefined ? Number.NaN : secondsOf(runs.lastProvenAt));
    seconds.set(runs?.lastRestoreSeconds ?? Number.NaN);
    bytes.set(runs?.lastBytes ?? Number.NaN);
    faulty.set(runs?.faultyBackups ?? Number.NaN);
    up.set(Number(runs?.storeIsUp ?? Number.NaN));
    // Without the database there is no series: a counter at 0 would look like a restart.
    total.reset();
    if (runs !== undefined) setTotals(total, runs);
  };
}

/** Sets every series, also at 0, so that the first failure shows as an increase. */
function setTotals(total: Counter, { counts }: StoredBackupsObservation): void {
  for (const kind of runKinds) {
    for (const outcome of runOutcomes.filter((one) => one !== 'running')) total.inc({ kind, outcome }, 0);
  }
  for (const { kind, outcome, count } of counts) total.inc({ kind, outcome }, count);
}

function secondsOf(time: string | null): number {
  return time === null ? 0 : Date.parse(time) / 1000;
}
