import { createLogger, type Log } from '../../../src/log.ts';
import { type Database, openDatabase } from '../../../src/persistence/connection/database.ts';
import { nodeUrl } from '../roles/node-url.ts';
import { throughPooler } from '../roles/pooled.ts';

/** Opens LOOM's connections to a database, as a node does. */
export function openDoor(
  url: string,
  poolMax = 4,
  log: Log = createLogger({ level: 'silent' }),
  open: typeof openDatabase = openDatabase,
): Database {
  return open(
    {
      // A node of an earlier version removes entries itself, for which the serving role has no right.
      url: open === openDatabase ? nodeUrl(url) : throughPooler(url),
      stateKey: 'default',
      poolMax,
      streamsMax: poolMax,
      idleTimeoutMs: 10_000,
      connectTimeoutMs: 5_000,
      ssl: false,
    },
    { log, applicationName: 'loom-test' },
  );
}
