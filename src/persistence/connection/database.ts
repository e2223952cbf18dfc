// persistence/connection/ is the only door to PostgreSQL: pool, transactions, COPY, deadlines, conversion of errors. It
// imports config, domain, errors, limits and log. No other room imports pg. It must not know LOOM's tables.

import pg, { type Pool, type PoolClient } from 'pg';
import type { PostgresConfig } from '../../config/config.ts';
import type { StoreObservation } from '../../domain/store.ts';
import { limits } from '../../limits.ts';
import type { Log } from '../../log.ts';
import { connectionOptions, cutClient, isIdle } from './client.ts';
import { type Connection, createConnection, createQueries, type Queries } from './connection.ts';
import { describeFault, isInStep, throwDatabaseError } from './faults.ts';
import { runTransaction, type TransactionMode } from './transaction.ts';

export interface DatabaseOptions {
  log: Log;
  /** Shown in `pg_stat_activity`. */
  applicationName: string;
}

/**
 * Runs SQL on the node's pool. Its own verbs run one short statement on any connection, with the deadline
 * `limits.queryTimeoutMs`. Every verb rejects with a LoomError.
 */
export interface Database extends Queries {
  /** Lends a connection to `use`. */
  withConnection<T>(use: (connection: Connection) => Promise<T>): Promise<T>;
  /**
   * Runs `run` in one transaction and commits. If `run` rejects, rolls back and rejects with the same error. Rejects
   * with `commit_outcome_unknown` when the connection breaks during the commit of a `write`, and with `client_gone`
   * when `signal` aborts.
   */
  transaction<T>(
    mode: TransactionMode,
    run: (connection: Connection) => Promise<T>,
    options?: { signal?: AbortSignal },
  ): Promise<T>;
  usage(): StoreObservation['pool'];
  /** Lets running work finish, then closes all connections. After `deadlineMs`, cuts those that are still lent. */
  close(options: { deadlineMs: number }): Promise<void>;
}

/**
 * Creates the node's pool. It connects on demand, so this never fails. Lending a connection rejects after
 * `connectTimeoutMs`, whether the server is silent or all connections are in use.
 */
export function openDatabase(config: PostgresConfig, options: DatabaseOptions): Database {
  const { pool, clients } = createPool(config, options);
  return {
    ...createQueries(pool, limits.queryTimeoutMs),
    withConnection: (use) => lend(pool, (client) => use(createConnection(client))),
    transaction: (mode, run, transactionOptions) =>
      lend(pool, (client) => runTransaction(client, mode, run, transactionOptions)),
    usage: () => ({ total: pool.totalCount, idle: pool.idleCount, waiting: pool.waitingCount, max: config.poolMax }),
    close: ({ deadlineMs }) => closePool(pool, clients, deadlineMs),
  };
}

function createPool(config: PostgresConfig, { log, applicationName }: DatabaseOptions) {
  const pool = new pg.Pool({
    ...connectionOptions(config, applicationName),
    max: config.poolMax,
    idleTimeoutMillis: config.idleTimeoutMs,
  });
  const clients = new Set<PoolClient>();
  pool.on('connect', (client) => {
    clients.add(client);
    // pg-pool listens only while a client is idle. Without a listener, a connection that breaks between two statements
    // of a transaction would end the process. The next statement reports the fault anyway.
    client.on('error', (error) => log.debug({ err: error }, `a database connection broke: ${describeFault(error)}`));
  });
  pool.on('remove', (client) => clients.delete(client));
  pool.on('error', (error) => log.warn({ err: error }, `an idle database connection broke: ${describeFault(error)}`));
  return { pool, clients };
}

/**
 * Lends a connection of the pool. Returns it to the pool only if the server reports no open transaction and no error
 * left the protocol out of step. Otherwise closes it, because the next borrower would hang.
 */
async function lend<T>(pool: Pool, use: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect().catch(throwDatabaseError);
  let usable = false;
  try {
    const result = await use(client);
    usable = true;
    return result;
  } catch (error) {
    usable = isInStep(error);
    throw error;
  } finally {
    client.release(!usable || !isIdle(client));
  }
}

async function closePool(pool: Pool, clients: Set<PoolClient>, deadlineMs: number): Promise<void> {
  if (pool.ending) return;
  const timer = setTimeout(() => {
    for (const client of clients) cutClient(client);
  }, deadlineMs);
  await pool.end().finally(() => clearTimeout(timer));
}
