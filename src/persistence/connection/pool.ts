import pg, { type Pool, type PoolClient } from 'pg';
import type { PostgresConfig } from '../../config/config.ts';
import type { Log } from '../../log.ts';
import { describeFault } from './faults.ts';
import { connectionOptions } from './options.ts';

const clientsOf = new WeakMap<Pool, Set<PoolClient>>();

export interface PoolOptions {
  log: Log;
  /** Shown in `pg_stat_activity`. */
  applicationName: string;
}

/**
 * The node's connections. Made lazily, so this never fails; `connect()` rejects after `connectTimeoutMs`, whether the
 * server is silent or all connections are in use.
 */
export function createPool(config: PostgresConfig, { log, applicationName }: PoolOptions): Pool {
  const pool = new pg.Pool({
    ...connectionOptions(config, applicationName),
    max: config.poolMax,
    idleTimeoutMillis: config.idleTimeoutMs,
  });
  const clients = new Set<PoolClient>();
  clientsOf.set(pool, clients);
  pool.on('connect', (client) => {
    clients.add(client);
    // pg-pool listens only while a client is idle. Without a listener, a connection that breaks between two statements
    // of a transaction would end the process; the next statement reports it anyway.
    client.on('error', (error) => log.debug({ err: error }, `a database connection broke: ${describeFault(error)}`));
  });
  pool.on('remove', (client) => clients.delete(client));
  pool.on('error', (error) => log.warn({ err: error }, `an idle database connection broke: ${describeFault(error)}`));
  return pool;
}

/**
 * Lets what is running finish, then closes all connections. What has not come back after `deadlineMs` is cut off: its
 * transaction rolls back, and its owner gets an error.
 */
export async function closePool(pool: Pool, { deadlineMs }: { deadlineMs: number }): Promise<void> {
  if (pool.ending) return;
  const timer = setTimeout(() => {
    for (const client of clientsOf.get(pool) ?? []) client.connection.stream.destroy();
  }, deadlineMs);
  try {
    await pool.end();
  } finally {
    clearTimeout(timer);
  }
}
