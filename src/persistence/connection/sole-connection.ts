import type { Client } from 'pg';
import type { PostgresConfig } from '../../config/config.ts';
import { cutClient } from './client.ts';
import { createQueries, type Queries } from './connection.ts';
import { throwDatabaseError } from './faults.ts';
import { createHosts, type Hosts, openClient } from './hosts.ts';

export type SoleConnection = ReturnType<typeof createSoleConnection>;

export interface SoleConnectionOptions {
  applicationName: string;
  /** Called when the connection breaks between two statements. */
  onLost: () => void;
  /** The servers, in an order that several connections share. */
  hosts?: Hosts | undefined;
  /** Time to connect to any of the servers. Default: that of the configuration. */
  connectTimeoutMs?: number;
}

/** Creates a connection outside the pool, without opening it. */
export function createSoleConnection(
  config: PostgresConfig,
  { applicationName, onLost, hosts = createHosts(config), ...options }: SoleConnectionOptions,
) {
  const connectTimeoutMs = Math.min(options.connectTimeoutMs ?? config.connectTimeoutMs, config.connectTimeoutMs);
  let client: Client | undefined;
  let closed = false;

  function watchClient(opened: Client): void {
    client = opened;
    // Without a listener, a connection that breaks between two statements would end the process.
    opened.on('error', () => {
      if (client === opened) onLost();
    });
    if (closed) cutClient(opened);
  }

  const queries: Queries = createQueries({
    query: (query) => client?.query(query) ?? Promise.reject(new Error('Connection terminated')),
  });
  return {
    ...queries,
    /** Opens the connection. Rejects with `database_unavailable`. Call it once. */
    connect: async (): Promise<void> => {
      await openClient(config, hosts, { applicationName, connectTimeoutMs, onClient: watchClient }).catch(
        throwDatabaseError,
      );
    },
    cut: (): void => {
      closed = true;
      if (client !== undefined) cutClient(client);
    },
  };
}
