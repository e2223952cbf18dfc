import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { findRecipientFault, parseIdentities } from './backup/stored/encryption.ts';
import { parseKeepPolicy } from './backup/stored/retention.ts';
import { parseSchedule } from './backup/stored/schedule.ts';
import { type Cause, createConditionLog } from './condition-log.ts';
import { type Config, ConfigError } from './config/config.ts';
import type { StoredBackupsConfig } from './config/stored-backups.ts';
import type { ProbeVerdict } from './domain/health/probe.ts';
import { type Readiness, readinessOf } from './domain/health/readiness.ts';
import { createMemoryBudgets, type MemoryBudgets } from './domain/memory.ts';
import type { RunningOperation, Store } from './domain/store.ts';
import { codeOf, isLoomError, LoomError } from './errors.ts';
import { chooseMaxConnections } from './http/connections.ts';
import { createServer } from './http/server.ts';
import { limits } from './limits.ts';
import type { Log } from './log.ts';
import { createMetrics, type Metrics, type OperationOutcome } from './metrics.ts';
import { openObjectStore } from './object-store/object-store.ts';
import { createOperations, type Operations } from './persistence/activity/operations.ts';
import { type Database, openDatabase } from './persistence/connection/database.ts';
import { describeFault, originalOf, sqlStateOf } from './persistence/connection/faults.ts';
import { createHosts } from './persistence/connection/hosts.ts';
import { createProbe } from './persistence/probe/probe.ts';
import { createRunLedger } from './persistence/runs/ledger.ts';
import { createInitializer } from './persistence/schema/initialize.ts';
import { loadMigrations, type Migration } from './persistence/schema/migrations.ts';
import { CURRENT_SCHEMA_VERSION } from './persistence/schema/schema.ts';
import { createStore } from './persistence/store.ts';
import type { StoredKeys } from './runs/parts.ts';
import { createStoredBackups, type StoredBackupsHandle } from './runs/runs.ts';
import { readVersion } from './version.ts';

export interface LoomNode {
  /** URL of the node, with the actual port if the configured port is 0. */
  url: string;
  readiness(): Readiness;
  /** Shuts down as SIGTERM does: turns unready, waits for the delay, finishes open requests, closes the database. */
  close(): Promise<void>;
}

const APPLICATION_NAME = 'loom';

/**
 * Starts a node. It listens at once, and answers `starting` until the database is initialized. Rejects if it cannot
 * listen, or if its migration files or the keys for stored backups are invalid.
 */
export async function startNode(
  config: Config,
  { log, droppedLines = () => 0 }: { log: Log; droppedLines?: () => number },
): Promise<LoomNode> {
  const version = readVersion();
  const keys = await readStoredKeys(config.storedBackups);
  const build = { version, nodeVersion: process.version, schema: CURRENT_SCHEMA_VERSION };
  const metrics = createMetrics({ build, droppedLines });
  let draining = false;
  const operations = createOperations((operation, error) =>
    reportOperation(operation, draining ? toShutdownError(error) : error, log, metrics),
  );
  const memory = createMemoryBudgets(() => performance.now());
  const parts = connectDatabase(config, await loadMigrations(), {
    log,
    metrics,
    operations,
    memory,
    onInitialized: () => storedBackups?.start(),
  });
  const { store, probe, initializer } = parts;
  const storedBackups = openStoredBackups(config, { ...parts, keys, log });
  const readiness = createReadiness(() => ({
    initialized: initializer.done(),
    verdict: probe.verdict(),
    draining,
  }));
  const { http, tokens, maxDocumentBytes, shutdown } = config;
  const { stateKey } = config.postgres;
  const conditions = createConditionLog({ log, describeCause });
  const server = createServer({
    http,
    tokens,
    stateKey,
    maxDocumentBytes,
    store,
    storedBackups,
    readiness,
    readinessDetail: () => (readiness().ok ? undefined : (probe.verdict().detail ?? initializer.fault())),
    node: { version, startedAt: new Date(), supportedSchemaVersion: CURRENT_SCHEMA_VERSION },
    log,
    metrics,
    reportFailure: conditions.report,
    memory,
    maxConnections: chooseMaxConnections({ configured: http.maxConnections, poolMax: config.postgres.poolMax }),
  });

  async function closeParts(): Promise<void> {
    conditions.close();
    await storedBackups?.close();
    await parts.close();
    metrics.close();
  }

  const address = await server.listen().catch(async (error: unknown) => {
    await closeParts();
    throw listenFault(error, http);
  });
  probe.start();
  initializer.start();
  log.info({ url: address.url, state_key: stateKey }, 'listening');

  async function close(): Promise<void> {
    draining = true;
    log.info('shutting down: open requests finish first');
    // Another node takes over the run meanwhile. Open requests still read from the store.
    const runsStopped = storedBackups?.stop();
    await sleep(shutdown.delayMs);
    await within(shutdown.timeoutMs + limits.lateAnswersMs + limits.lastCloseMs, async () => {
      await server.close({ timeoutMs: shutdown.timeoutMs, abandon: parts.abandon });
      await runsStopped;
      await closeParts();
    });
    operations.endAll(shutdownError());
    log.info('stopped');
  }

  let closing: Promise<void> | undefined;
  return {
    url: address.url,
    readiness,
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}

interface ConnectOptions {
  log: Log;
  metrics: Metrics;
  operations: Operations;
  memory: MemoryBudgets;
  /** Called when the database has the schema and the state. */
  onInitialized(): void;
}

/** Creates the parts that use the database. Each connects only when it is started or used. */
function connectDatabase(
  { postgres, migrate, maxDocumentBytes }: Config,
  migrations: Migration[],
  { log, metrics, operations, memory, onInitialized }: ConnectOptions,
) {
  const { stateKey } = postgres;
  // The pool and the probe share what they learn about the servers.
  const hosts = createHosts(postgres);
  const database = openDatabase(postgres, { log, applicationName: APPLICATION_NAME, hosts });
  const onDone = (): void => {
    probe.wake();
    onInitialized();
  };
  const initializer = createInitializer({ database, migrations, stateKey, migrate, log, onDone });
  const probe = createProbe({
    postgres,
    hosts,
    log,
    applicationName: `${APPLICATION_NAME}-probe`,
    supportedSchemaVersion: CURRENT_SCHEMA_VERSION,
    commitFailures: () => store.commitFailures(),
    onChange: (verdict) => {
      // Idle connections may lead to a server that is away, or that is no longer the primary.
      if (!verdict.ok) database.reset();
      // The database of the running node was emptied or replaced.
      if (verdict.schema === 'behind') initializer.start();
    },
  });
  const onBatch = metrics.countBatch;
  const store = createStore({
    database,
    migrations,
    stateKey,
    maxDocumentBytes,
    operations,
    onBatch,
    memory: memory.answers,
  });
  return {
    database,
    store,
    probe,
    initializer,
    /** Ends the work on open requests, so that they reject. Commits that were not sent are never made. */
    abandon: async (): Promise<void> => {
      const answered = store.abandonCommits();
      database
        .close({ deadlineMs: 0 })
        .catch((error: unknown) => log.debug({ err: error }, 'a connection did not close'));
      await answered;
    },
    close: async () => {
      await initializer.close();
      await store.close();
      await probe.close();
      await database.close({ deadlineMs: limits.poolCloseMs });
    },
  };
}

/** Reads the keys for stored backups. Rejects if one is wrong: no backup is written in plain text by mistake. */
async function readStoredKeys(config: StoredBackupsConfig | undefined): Promise<StoredKeys> {
  const { recipients = [], identity } = config ?? {};
  const problems: string[] = [];
  const fault = recipients.length === 0 ? undefined : await findRecipientFault(recipients);
  if (fault !== undefined) problems.push(`LOOM_BACKUP_RECIPIENTS: ${fault}`);
  const read = identity === undefined ? [] : parseIdentities(identity, 'The identity');
  const identities = await Promise.resolve(read).catch((error: unknown) => {
    problems.push(
      `LOOM_BACKUP_IDENTITY (or its _FILE): ${isLoomError(error) ? error.message : 'its keys could not be read'}`,
    );
    return [];
  });
  if (problems.length > 0) throw new ConfigError(problems);
  return { recipients, identities };
}

/** Creates the stored backups of the state. Undefined without a store. */
function openStoredBackups(
  { storedBackups: settings, postgres: { stateKey } }: Config,
  { database, store, keys, log }: { database: Database; store: Store; keys: StoredKeys; log: Log },
): StoredBackupsHandle | undefined {
  if (settings === undefined) return undefined;
  // Two nodes may have the same host and process id, in containers.
  const node = `${hostname()}-${process.pid}-${randomBytes(4).toString('hex')}`;
  return createStoredBackups({
    ledger: createRunLedger(database, { stateKey, node }),
    store: openObjectStore(settings.store),
    verbs: store,
    stateKey,
    schedule: parseSchedule(settings.schedule),
    drillSchedule: parseSchedule(settings.drillSchedule),
    policy: parseKeepPolicy(settings.keep),
    keys,
    pingUrl: settings.pingUrl,
    log,
  });
}

/** Waits for `run`, at most `maxMs`: a part that waits for a frozen database must not keep the process alive. */
async function within(maxMs: number, run: () => Promise<void>): Promise<void> {
  const done = new AbortController();
  const deadline = sleep(maxMs, undefined, { signal: done.signal });
  await Promise.race([run(), deadline]).finally(() => done.abort());
}

function listenFault(error: unknown, { host, port }: Config['http']): unknown {
  const code = codeOf(error);
  if (code === 'EADDRINUSE')
    return new Error(`Port ${port} of ${host} is already in use. Set LOOM_PORT to another port.`, { cause: error });
  if (code === 'EACCES')
    return new Error(`Port ${port} is reserved for privileged users. Set LOOM_PORT to 1024 or more.`, { cause: error });
  if (code !== undefined && ['EADDRNOTAVAIL', 'EAFNOSUPPORT', 'EINVAL', 'ENOTFOUND', 'EAI_AGAIN'].includes(code))
    return new Error(`LOOM_HOST "${host}" is not an address of this machine.`, { cause: error });
  return error;
}

interface ReadinessFacts {
  initialized: boolean;
  verdict: ProbeVerdict;
  draining: boolean;
}

/** Returns a reader of the readiness. It returns the same object while the facts stay the same. */
function createReadiness(readFacts: () => ReadinessFacts): () => Readiness {
  let last: (ReadinessFacts & { readiness: Readiness }) | undefined;
  return () => {
    const facts = readFacts();
    const { initialized, verdict, draining } = facts;
    if (last?.verdict !== verdict || last.initialized !== initialized || last.draining !== draining) {
      last = { ...facts, readiness: readinessOf(startingUntil(initialized, verdict), draining) };
    }
    return last.readiness;
  };
}

/** Returns the verdict, but `starting` while the database is ready and the state has no row yet. */
function startingUntil(initialized: boolean, verdict: ProbeVerdict): ProbeVerdict {
  return initialized || !verdict.ok ? verdict : { ...verdict, ok: false, reason: 'starting' };
}

/** Returns the fault of PostgreSQL or the network behind an error, or the error's own words if LOOM found it. */
function describeCause(error: LoomError): Cause {
  const original = originalOf(error);
  if (original === error) return { key: error.code, description: error.message };
  const description = describeFault(error);
  return { key: sqlStateOf(error) ?? codeOf(original) ?? description, description };
}

/** Converts the error of an operation that the shutdown aborted, so that it does not count as a database failure. */
function toShutdownError(error: unknown): unknown {
  if (!isLoomError(error) || error.code !== 'database_unavailable') return error;
  return shutdownError(error);
}

function shutdownError(cause?: unknown): LoomError {
  return new LoomError('client_gone', 'The node shut down before the operation ended.', { cause });
}

/** Classifies the end of an operation. Only `failed`, a fault of the node or the database, calls for an alarm. */
function outcomeOf(error: unknown): OperationOutcome {
  if (error === undefined) return 'ok';
  if (!isLoomError(error)) return 'failed';
  if (error.code === 'client_gone') return 'aborted';
  return error.status < 500 || busyCodes.has(error.code) ? 'refused' : 'failed';
}

/** Contains the codes of a node at its limits. Clients decide how often it is, and `LoomStreamsFull` shows it. */
const busyCodes: ReadonlySet<string> = new Set(['streams_busy', 'node_busy', 'draining']);

function reportOperation(operation: RunningOperation, error: unknown, log: Log, metrics: Metrics): void {
  const { kind } = operation;
  const outcome = outcomeOf(error);
  metrics.countOperation(kind, outcome);
  if (kind === 'backup' && outcome === 'ok') metrics.recordBackup(operation.bytes);
  if (outcome === 'failed') log.error({ operation, err: error }, `${kind} failed`);
  else if (isLoomError(error))
    log.info({ operation, code: error.code, place: error.place }, `${kind} ${outcome}: ${error.message}`);
  else log.info({ operation }, `${kind} done`);
}
