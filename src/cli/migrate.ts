import { parseDatabaseConfig } from '../config/config.ts';
import { limits } from '../limits.ts';
import { openProcessLog } from '../log.ts';
import { openDatabase } from '../persistence/connection/database.ts';
import { describeFault, isConnectionFault, toDatabaseError } from '../persistence/connection/faults.ts';
import { migrate as migrateDatabase } from '../persistence/schema/migrate.ts';
import { loadMigrations } from '../persistence/schema/migrations.ts';
import { CURRENT_SCHEMA_VERSION } from '../persistence/schema/schema.ts';
import { createPlainCommand, readFile } from './command.ts';

/** Migrates the database to the schema of this version, for `LOOM_MIGRATE=manual`. */
export const migrate = createPlainCommand({
  name: 'migrate',
  help: {
    summary: 'migrate the database to the schema of this version',
    about:
      'Applies the missing migrations to the database that LOOM_PG_URL names. With LOOM_MIGRATE=auto a node does that itself; ' +
      'with LOOM_MIGRATE=manual, run this before you start nodes of a new version.',
    succeeds: 'the schema has the version of this LOOM, or a newer one',
    fails: 'the database cannot be reached, or a migration failed',
    examples: ['LOOM_PG_URL=postgres://loom@db.example/loom node dist/main.js migrate'],
  },
  run: async ({ env, write }) => {
    const config = parseDatabaseConfig(env, { readFile });
    const { log, flush } = openProcessLog({ level: config.log.level, secrets: [config.postgres.url] });
    const database = openDatabase(config.postgres, { log, applicationName: 'loom-migrate' });
    try {
      const applied = await migrateDatabase(database, await loadMigrations());
      for (const name of applied) write(`applied ${name}\n`);
      const found = applied.length === 0 ? ' or newer: there was nothing to migrate' : '';
      write(`The schema is at version ${CURRENT_SCHEMA_VERSION}${found}.\n`);
      return 0;
    } catch (error) {
      const known = toDatabaseError(error);
      if (known.code !== 'database_unavailable') throw error;
      if (!isConnectionFault(error)) throw new Error(`${known.message} (${describeFault(error)})`, { cause: error });
      throw new Error(`The database could not be reached: ${describeFault(error)}.`, { cause: error });
    } finally {
      await database.close({ deadlineMs: limits.poolCloseMs });
      await flush();
    }
  },
});
