import type { Config } from './config/config.ts';
import { type Readiness, readinessOf } from './domain/readiness.ts';
import type { RunningOperation } from './domain/store.ts';
import { isLoomError, LoomError } from './errors.ts';
import { createServer } from './http/server.ts';
import { limits } from './limits.ts';
import type { Log } from './log.ts';
import { createMetrics, type Metrics, type OperationOutcome } from './metrics.ts';
import { closePool, createPool } from './persistence/connection/pool.ts';
import { createProbe } from './persistence/probe/probe.ts';
import { createInitializer } from './persistence/schema/initialize.ts';
import { loadMigrations } from './persistence/schema/migrations.ts';
import { CURRENT_SCHEMA_VERSION } from './persistence/schema/schema.ts';
import { createStore } from './persistence/store.ts';
import { readVersion } from './version.ts';

export interface LoomNode {
  /** Where it listens; the port is a real one also when 0 was configured. */
  url: string;
  readiness(): Readiness;
  /** SIGTERM's way: not ready at once, then the configured delay, open requests, the database. */
  close(): Promise<void>;
}

const APPLICATION_NAME = 'loom';

/**
 * Starts a node: it listens at once and says `starting` until the database has been reached, however long that takes.
 * Rejects only when it cannot listen, or when its own migration files are broken.
 */
export async function startNode(config: Config, { log }: { log: Log }): Promise<LoomNode> {
  const migrations = await loadMigrations();
  const metrics = createMetrics();
  const pool = createPool(config.postgres, { log, applicationName: APPLICATION_NAME });
  const initializer = createInitializer({
    pool,
    migrations,
    stateKey: config.postgres.stateKey,
    migrate: config.migrate,
    log,
    onDone: () => probe.wake(),
  });
  const probe = createProbe({
    postgres: config.postgres,
    log,
    applicationName: `${APPLICATION_NAME}-probe`,
    supportedSchemaVersion: CURRENT_SCHEMA_VERSION,
    onChange: (verdict) => {
      // The database was emptied or replaced under a running node.
      if (verdict.schema === 'behind') initializer.start();
    },
  });
  let draining = false;
  const readiness = () => readinessOf(startingUntil(initializer.done(), probe.verdict()), draining);
  const store = createStore({
    pool,
    migrations,
    stateKey: config.postgres.stateKey,
    maxDocumentBytes: config.maxDocumentBytes,
    poolMax: config.postgres.poolMax,
    onBatch: metrics.countBatch,
    onOperation: (operation, error) =>
      reportOperation(operation, draining ? cutByShutdown(error) : error, log, metrics),
  });
  const server = createServer({
    http: config.http,
    tokens: config.tokens,
    stateKey: config.postgres.stateKey,
    maxDocumentBytes: config.maxDocumentBytes,
    store,
    readiness,
    node: { version: readVersion(), startedAt: new Date(), supportedSchemaVersion: CURRENT_SCHEMA_VERSION },
    log,
    metrics,
  });

  async function closeDatabase(): Promise<void> {
    await initializer.close();
    await store.close();
    await probe.close();
    await closePool(pool, { deadlineMs: limits.poolCloseMs });
    metrics.close();
  }

  const address = await server.listen().catch(async (error: unknown) => {
    await closeDatabase();
    throw listenFault(error, config.http);
  });
  probe.start();
  initializer.start();
  log.info({ url: address.url, state_key: config.postgres.stateKey }, 'listening');

  let closing: Promise<void> | undefined;
  async function close(): Promise<void> {
    draining = true;
    log.info('shutting down: open requests are finished first');
    await new Promise((resolve) => setTimeout(resolve, config.shutdown.delayMs));
    await server.close({ timeoutMs: config.shutdown.timeoutMs });
    await closeDatabase();
    log.info('stopped');
  }

  return {
    url: address.url,
    readiness,
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}

function listenFault(error: unknown, { host, port }: Config['http']): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'EADDRINUSE')
    return new Error(`Port ${port} of ${host} is taken: set LOOM_PORT to another.`, { cause: error });
  if (code === 'EADDRNOTAVAIL') return new Error(`LOOM_HOST ${host} is no address of this machine.`, { cause: error });
  return error;
}

/** A database that is well but whose state has no row yet is still a node that is starting. */
function startingUntil(initialized: boolean, verdict: ReturnType<ReturnType<typeof createProbe>['verdict']>) {
  return initialized || !verdict.ok ? verdict : { ...verdict, ok: false, reason: 'starting' as const };
}

/** What a node that ends has cut off itself is no fault of the database. */
function cutByShutdown(error: unknown): unknown {
  if (!isLoomError(error) || error.code !== 'database_unavailable') return error;
  return new LoomError('client_gone', 'The node was shut down, and did not wait any longer.', { cause: error });
}

/** Who was at fault that an operation did not succeed: an alarm is for `failed` only. */
function outcomeOf(error: unknown): OperationOutcome {
  if (error === undefined) return 'ok';
  if (!isLoomError(error)) return 'failed';
  if (error.code === 'client_gone') return 'aborted';
  return error.status < 500 ? 'refused' : 'failed';
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
