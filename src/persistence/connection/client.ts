import pg, { type Client, type ClientConfig, type PoolClient } from 'pg';
import type { PostgresConfig } from '../../config/config.ts';
import type { PostgresTarget } from '../../config/postgres-url.ts';
import { limits } from '../../limits.ts';

const INT8 = 20;

/** Describes the part of pg's `Client` and `Pool` that runs a statement. */
export interface Runner {
  // biome-ignore format: one line reads better
  query(query: { text: string; values: unknown[]; query_timeout?: number }): Promise<{ rows: unknown[]; rowCount: number | null; command: string }>;
}

/**
 * Returns the options that all servers share. They contain no session settings and no unusual startup parameters:
 * behind PgBouncer in transaction mode, the next transaction may run in another session.
 */
export function connectionOptions(
  config: PostgresConfig,
  target: PostgresTarget,
  applicationName: string,
): ClientConfig {
  return {
    // Not `connectionString`: pg decodes neither a slash in the name of the database nor a list of hosts.
    user: target.user,
    password: target.password,
    database: target.database,
    options: target.options,
    // A name in the URL takes precedence: it is the operator's choice.
    application_name: target.applicationName,
    fallback_application_name: applicationName,
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
