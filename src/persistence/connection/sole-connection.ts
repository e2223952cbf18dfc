import pg from 'pg';
import type { PostgresConfig } from '../../config/config.ts';
import { connectionOptions, cutClient } from './client.ts';
import { createQueries, type Queries } from './connection.ts';
import { throwDatabaseError } from './faults.ts';

/** One connection outside the pool. */
export interface SoleConnection extends Queries {
  /** Rejects with `database_unavailable`. Call it once. */
  connect(): Promise<void>;
  cut(): void;
}

/** Creates a connection without opening it. Calls `onLost` when it breaks between two statements. */
export function createSoleConnection(
  config: PostgresConfig,
  { applicationName, onLost }: { applicationName: string; onLost: () => void },
): SoleConnection {
  const client = new pg.Client(connectionOptions(config, applicationName));
  // Without a listener, a connection that breaks between two statements would end the process.
  client.on('error', onLost);
  return {
    ...createQueries(client),
    connect: async () => {
      await client.connect().catch(throwDatabaseError);
    },
    cut: () => cutClient(client),
  };
}
