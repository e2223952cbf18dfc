import pg, { type ClientConfig } from 'pg';
import type { PostgresConfig } from '../../config/config.ts';
import { limits } from '../../limits.ts';

const INT8 = 20;

/**
 * What every connection of LOOM has in common. No setting is made at session level and nothing unusual goes into the
 * startup packet, because behind PgBouncer in transaction mode the next transaction may run in another session.
 */
export function connectionOptions(config: PostgresConfig, applicationName: string): ClientConfig {
  return {
    connectionString: config.url,
    // A name in the URL is the operator's choice and wins.
    fallback_application_name: applicationName,
    connectionTimeoutMillis: config.connectTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: limits.keepAliveDelayMs,
    // Stated even when false: left out, pg would take it from PGSSLMODE.
    ssl: config.ssl,
    types: createTypes(),
  };
}

/** int8 as a number: revisions, counts and sizes stay below 2^53, and one that does not fails the query. */
function createTypes(): pg.TypeOverrides {
  const types = new pg.TypeOverrides();
  types.setTypeParser(INT8, parseInt8);
  return types;
}

function parseInt8(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new RangeError(`The int8 ${text} does not fit into a number.`);
  return value;
}
