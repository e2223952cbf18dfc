import pg from 'pg';
import type { PostgresConfig } from '../../config/config.ts';
import { connectionOptions, cutClient } from './client.ts';
import { createQueries, type Queries } from './connection.ts';
import { toDatabaseError } from './faults.ts';

export interface SoleConnectionOptions {
  /** Shown in `pg_stat_activity`. */
  applicationName: string;
  /** Called when the connection breaks between two statements. */
  onLost(): void;
}

/** One connection outside the pool. */
export interface SoleConnection extends Queries {
  /** Rejects with `database_unavailable`. Call it once. */
  connect(): Promise<void>;
  cut(): void;
}

export function createSoleConnection(
  config: PostgresConfig,
  { applicationName, onLost }: SoleConnectionOptions,
): SoleConnection {
  const client = new pg.Client(connectionOptions(config, applicationName));
  // Without a listener, a connection that breaks between two statements would end the process.
  client.on('error', onLost);
  return {
    ...createQueries(client),
    connect: async () => {
      try {
        await client.connect();
      } catch (error) {
        throw toDatabaseError(error);
      }
    },
    cut: () => cutClient(client),
  };
}
