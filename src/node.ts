import type { Config } from './config/config.ts';
import { createMemoryBudgets, type MemoryBudgets } from './domain/memory.ts';
import type { ProbeVerdict } from './domain/probe.ts';
import { type Readiness, readinessOf } from './domain/readiness.ts';
import type { RunningOperation } from './domain/store.ts';
import { codeOf, isLoomError, LoomError } from './errors.ts';
import { chooseMaxConnections } from './http/connections.ts';
import { createServer } from './http/server.ts';
import { limits } from './limits.ts';
import type { Log } from './log.ts';
import { createMetrics, type Metrics, type OperationOutcome } from './metrics.ts';
import { createOperations, type Operations } from './persistence/activity/operations.ts';
import { openDatabase } from './persistence/connection/database.ts';
import { createProbe } from './persistence/probe/probe.ts';
import { createInitializer } from './persistence/schema/initialize.ts';
import { loadMigrations, type Migration } from './persistence/schema/migrations.ts';
import { CURRENT_SCHEMA_VERSION } from './persistence/schema/schema.ts';
import { createStore } from './persistence/store.ts';
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
 * listen, or if its migration files are invalid.
 */
export async function startNode(config: Config, { log }: { log: Log }): Promise<LoomNode> {
  const metrics = createMetrics();
  let draining = false;
  const operations = createOperations((operation, error) =>
    reportOperation(operation, draining ? toShutdownError(error) : error, log, metrics),
  );
  const memory = createMemoryBudgets(() => performance.now());
  const parts = connectDatabase(config, await loadMigrations(), { log, metrics, operations, memory });
  const { store, probe, initializer } = parts;
  const readiness = () => readinessOf(startingUntil(initializer.done(), probe.verdict()), draining);
  const { http, tokens, maxDocumentBytes, shutdown } = config;
  const { stateKey } = config.postgres;
  const server = createServer({
    http,
    tokens,
    stateKey,
    maxDocumentBytes,
    store,
    readiness,
    node: { version: readVersion(), startedAt: new Date(), supportedSchemaVersion: CURRENT_SCHEMA_VERSION },
    log,
    metrics,
    memory,
    maxConnections: chooseMaxConnections({ configured: http.maxConnections, poolMax: config.postgres.poolMax }),
  });

  async function closeParts(): Promise<void> {
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
    await new Promise((resolve) => setTimeout(resolve, shutdown.delayMs));
    await server.close({ timeoutMs: shutdown.timeoutMs });
    await closeParts();
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

/** Creates the parts that use the database. Each connects only when it is started or used. */
function connectDatabase(
  { postgres, migrate, maxDocumentBytes }: Config,
  migrations: Migration[],
  { log, metrics, operations, memory }: { log: Log; metrics: Metrics; operations: Operations; memory: MemoryBudgets },
) {
  const { stateKey } = postgres;
  const database = openDatabase(postgres, { log, applicationName: APPLICATION_NAME });
  const initializer = createInitializer({ database, migrations, stateKey, migrate, log, onDone: () => probe.wake() });
  const probe = createProbe({
    postgres,
    log,
    applicationName: `${APPLICATION_NAME}-probe`,
    supportedSchemaVersion: CURRENT_SCHEMA_VERSION,
    onChange: (verdict) => {
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
    store,
    probe,
    initializer,
    close: async () => {
      await initializer.close();
      await store.close();
      await probe.close();
      await database.close({ deadlineMs: limits.poolCloseMs });
    },
  };
}

function listenFault(error: unknown, { host, port }: Config['http']): unknown {
  const code = codeOf(error);
  if (code === 'EADDRINUSE')
    return new Error(`Port ${port} of ${host} is already in use. Set LOOM_PORT to another port.`, { cause: error });
  if (code === 'EADDRNOTAVAIL')
    return new Error(`LOOM_HOST "${host}" is not an address of this machine.`, { cause: error });
  return error;
}

/** Returns the verdict, but `starting` while the database is ready and the state has no row yet. */
function startingUntil(initialized: boolean, verdict: ProbeVerdict): ProbeVerdict {
  return initialized || !verdict.ok ? verdict : { ...verdict, ok: false, reason: 'starting' };
}

/** Converts the error of an operation that the shutdown aborted, so that it does not count as a database failure. */
function toShutdownError(error: unknown): unknown {
  if (!isLoomError(error) || error.code !== 'database_unavailable') return error;
  return new LoomError('client_gone', 'The node shut down before the operation ended.', { cause: error });
}

/** Classifies the end of an operation. Only `failed`, a fault of the node or the database, calls for an alarm. */
function outcomeOf(error: unknown): OperationOutcome {
  if (error === undefined) return 'ok';
  if (!isLoomError(error)) return 'failed';
  if (error.code === 'client_gone') return 'aborted';
  // A node at its limit of memory is no fault of the node or the database.
  return error.status < 500 || error.code === 'node_busy' ? 'refused' : 'failed';
}

function reportOperation(operation: RunningOperation, error: unknown, log: Log, metrics: Metrics): void {
  const { kind } = operation;
  const outcome = outcomeOf(error);
  metrics.countOperation(kind, outcome);
  if (outcome === 'failed') log.error({ operation, err: error }, `${kind} failed`);
  else if (isLoomError(error))
    log.info({ operation, code: error.code, place: error.place }, `${kind} ${outcome}: ${error.message}`);
  else log.info({ operation }, `${kind} done`);
}
