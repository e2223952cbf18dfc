// cli/database/ has the commands that use the database itself, without a node. They import persistence/ for what a node
// does at its start or in a repair.

import { type Config, parseDatabaseConfig } from '../../config/config.ts';
import { limits } from '../../limits.ts';
import { openProcessLog } from '../../log.ts';
import { type Database, openDatabase } from '../../persistence/connection/database.ts';
import { describeFault, isConnectionFault, toDatabaseError } from '../../persistence/connection/faults.ts';
import { type CommandContext, readFile } from '../command.ts';

/** Runs a command on the database itself, and says why the database could not be used. */
export async function withDatabase<T>(
  { env }: Pick<CommandContext, 'env'>,
  applicationName: string,
  run: (database: Database, config: Config['postgres']) => Promise<T>,
): Promise<T> {
  const config = parseDatabaseConfig(env, { readFile });
  const { log, flush } = openProcessLog({ level: config.log.level, secrets: [config.postgres.url] });
  const database = openDatabase(config.postgres, { log, applicationName });
  try {
    return await run(database, config.postgres);
  } catch (error) {
    const known = toDatabaseError(error);
    if (known.code !== 'database_unavailable') throw error;
    if (!isConnectionFault(error)) throw new Error(`${known.message} (${describeFault(error)})`, { cause: error });
    throw new Error(`The database could not be reached: ${describeFault(error)}.`, { cause: error });
  } finally {
    await database.close({ deadlineMs: limits.poolCloseMs });
    await flush();
  }
}
