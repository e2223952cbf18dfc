import { migrate as migrateDatabase } from '../../persistence/schema/migrate.ts';
import { loadMigrations } from '../../persistence/schema/migrations.ts';
import { CURRENT_SCHEMA_VERSION } from '../../persistence/schema/schema.ts';
import { createPlainCommand } from '../command.ts';
import { withDatabase } from './database.ts';

/** Migrates the database to the schema of this version, for `LOOM_MIGRATE=manual`. */
export const migrate = createPlainCommand({
  name: 'migrate',
  help: {
    summary: 'migrate the database to the schema of this version',
    about:
      'Applies the missing migrations to the database that LOOM_PG_URL names. With LOOM_MIGRATE=auto a node does ' +
      'that itself; with LOOM_MIGRATE=manual, run this before you start nodes of a new version.',
    succeeds: 'the schema has the version of this LOOM, or a newer one',
    fails: 'the database cannot be reached, or a migration failed',
    examples: ['LOOM_PG_URL=postgres://loom@db.example/loom node dist/main.js migrate'],
  },
  run: ({ env, write }) =>
    withDatabase({ env }, 'loom-migrate', async (database) => {
      const applied = await migrateDatabase(database, await loadMigrations());
      for (const name of applied) write(`applied ${name}\n`);
      const found = applied.length === 0 ? ' or newer: there was nothing to migrate' : '';
      write(`The schema is at version ${CURRENT_SCHEMA_VERSION}${found}.\n`);
      return 0;
    }),
});
