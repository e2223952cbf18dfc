import { randomBytes } from 'node:crypto';
import { configSecrets } from '../config/config.ts';
import { createLogger } from '../log.ts';
import { startNode } from '../node.ts';
import { type Command, type CommandContext, readConfig, stopRequested } from './command.ts';

/** Kept between runs; `.gitignore` names it. */
const DATA_DIRECTORY = '.loom/postgres';

/**
 * Runs a node on a PostgreSQL of its own, for development: no set-up, data that survives, a fresh admin token. What the
 * environment or `.env` says has precedence.
 */
export const dev: Command = {
  summary: 'run a node on an embedded PostgreSQL, for development',
  run: async ({ env, stop, write }) => {
    // Not among the dependencies of production: the import must not be reached there.
    const { startEmbeddedPostgres } = await import('../dev/postgres.ts');
    write('Starting an embedded PostgreSQL (the first time takes a few seconds) …\n');
    const postgres = await startEmbeddedPostgres({ dataDirectory: DATA_DIRECTORY, persistent: true });
    try {
      const config = readConfig({ ...developmentDefaults(), ...withoutDatabase(env), LOOM_PG_URL: postgres.url });
      const log = createLogger({ level: config.log.level, secrets: configSecrets(config) });
      const node = await startNode(config, { log });
      write(firstSteps(node.url, config.tokens.admin[0] ?? ''));
      await Promise.race([stopRequested(stop), postgres.ended]);
      await node.close();
    } finally {
      await postgres.stop({ keepData: true });
    }
    if (!stop.aborted) throw new Error('The embedded PostgreSQL has ended by itself.');
    write('Stopped. The data is kept in .loom/.\n');
    return 0;
  },
};

function developmentDefaults(): CommandContext['env'] {
  return { LOOM_LOG_LEVEL: 'warn', LOOM_ADMIN_TOKEN: randomBytes(24).toString('base64url') };
}

/** A `.env` for production names another database, and how to reach it; an empty token in it must not hide the fresh one. */
function withoutDatabase(env: CommandContext['env']): CommandContext['env'] {
  const kept = Object.entries(env).filter(([name, value]) => !/^LOOM_PG_(URL|SSL)/.test(name) && value !== '');
  return Object.fromEntries(kept);
}

function firstSteps(url: string, token: string): string {
  return `
LOOM runs at ${url} (Ctrl-C stops it and its PostgreSQL).

  export LOOM_ADMIN_TOKEN=${token}
  curl -sS ${url}/ready
  curl -sS -X PUT ${url}/v1/documents/hello -H "x-loom-admin-token: $LOOM_ADMIN_TOKEN" -H "content-type: application/json" -d '{"greeting":"world"}'
  curl -sS ${url}/v1/state -H "x-loom-admin-token: $LOOM_ADMIN_TOKEN"
  curl -sS ${url}/v1/admin/status -H "x-loom-admin-token: $LOOM_ADMIN_TOKEN"
  curl -sS "${url}/v1/admin/persistence/backup?include_audit=true" -H "x-loom-admin-token: $LOOM_ADMIN_TOKEN" > loom-backup.json

`;
}
