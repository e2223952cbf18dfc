import pg from 'pg';
import type { PostgresConfig } from '../../config/config.ts';
import { connectionOptions, cutClient } from './client.ts';
import { createQueries } from './connection.ts';
import { throwDatabaseError } from './faults.ts';

export type SoleConnection = ReturnType<typeof createSoleConnection>;

/** Creates a connection outside the pool, without opening it. Calls `onLost` when it breaks between two statements. */
export function createSoleConnection(
  config: PostgresConfig,
  { applicationName, onLost }: { applicationName: string; onLost: () => void },
) {
  const client = new pg.Client(connectionOptions(config, applicationName));
  // Without a listener, a connection that breaks between two statements would end the process.
  client.on('error', onLost);
  return {
    ...createQueries(client),
    /** Opens the connection. Rejects with `database_unavailable`. Call it once. */
    connect: async (): Promise<void> => {
      await client.connect().catch(throwDatabaseError);
    },
    cut: (): void => cutClient(client),
  };
}
