import pg, { type Client, type ClientConfig, type PoolClient } from 'pg';
import type { PostgresConfig } from '../../config/config.ts';
import { limits } from '../../limits.ts';

const INT8 = 20;

/**
 * Returns the options of every connection. They contain no session settings and no unusual startup parameters: behind
 * PgBouncer in transaction mode, the next transaction may run in another session.
 */
export function connectionOptions(config: PostgresConfig, applicationName: string): ClientConfig {
  return {
    connectionString: config.url,
    // A name in the URL takes precedence: it is the operator's choice.
    fallback_application_name: applicationName,
    connectionTimeoutMillis: config.connectTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: limits.keepAliveDelayMs,
    // Set even when false: without it, pg reads PGSSLMODE.
    ssl: config.ssl,
    types: createTypes(),
  };
}

/** Reads int8 as a number. Revisions, counts and sizes stay below 2^53; a larger value fails the query. */
function createTypes(): pg.TypeOverrides {
  const types = new pg.TypeOverrides();
  types.setTypeParser(INT8, (text) => {
    const value = Number(text);
    if (!Number.isSafeInteger(value)) throw new RangeError(`The int8 ${text} does not fit into a number.`);
    return value;
  });
  return types;
}

/** Destroys the socket. A graceful end would wait for a server that may be frozen. */
export function cutClient(client: Client | PoolClient): void {
  client.connection.stream.destroy();
}

/** Returns whether the client can be lent again: its socket is open, and the server reports no open transaction. */
export function isIdle(client: PoolClient): boolean {
  return !client.connection.stream.destroyed && client.getTransactionStatus() === 'I';
}
