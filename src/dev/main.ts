/**
 * The development node: `npm run dev`. The room may import cli, config, log and node. Only tests import it. The build
 * leaves it out, because the embedded PostgreSQL is a development dependency.
 */
import { randomBytes } from 'node:crypto';
import { type CommandContext, createPlainCommand, readFile, stopRequested } from '../cli/command.ts';
import { runProgram } from '../cli/program.ts';
import { configSecrets, parseConfig } from '../config/config.ts';
import { openProcessLog } from '../log.ts';
import { startNode } from '../node.ts';
import { startEmbeddedPostgres } from './postgres.ts';
import { watchParent } from './processes.ts';

/** Kept between runs; `.gitignore` names it. */
const DATA_DIRECTORY = '.loom/postgres';

/**
 * Runs a node on its own PostgreSQL. The environment and `.env` take precedence over the development defaults.
 *
 * npm forwards only SIGTERM and SIGINT, and only to its own child. So the script in `package.json` replaces the shell
 * (`exec`), and the node also stops when npm has ended.
 */
const dev = createPlainCommand({
  name: 'dev',
  help: {
    summary: 'run a node on an embedded PostgreSQL, for development',
    commandLine: 'npm run dev',
    about:
      'Starts a PostgreSQL and a node on it, and prints a new admin token and first requests. The data stays in .loom/ for ' +
      'the next run. The environment and .env configure the node, except for its database.',
    succeeds: 'stopped by Ctrl-C or SIGTERM, or because npm has ended',
    fails: 'the node or its PostgreSQL could not start, or ended unexpectedly',
    examples: ['npm run dev', 'LOOM_PORT=9000 npm run dev'],
  },
  run: async ({ env, stop, write }) => {
    const npmEnded = env.npm_lifecycle_event === undefined ? undefined : watchParent();
    write('Starting an embedded PostgreSQL (the first time takes a few seconds) …\n');
    const postgres = await startEmbeddedPostgres({ dataDirectory: DATA_DIRECTORY, persistent: true });
    try {
      const defaults = { LOOM_LOG_LEVEL: 'warn', LOOM_ADMIN_TOKEN: randomBytes(24).toString('base64url') };
      const config = parseConfig({ ...defaults, ...withoutDatabase(env), LOOM_PG_URL: postgres.url }, { readFile });
      const { log, droppedLines, flush } = openProcessLog({ level: config.log.level, secrets: configSecrets(config) });
      try {
        const node = await startNode(config, { log, droppedLines });
        write(firstSteps(node.url, config.tokens.admin[0] ?? ''));
        await Promise.race([postgres.ended, ...[stop, npmEnded ?? []].flat().map(stopRequested)]);
        await node.close();
      } finally {
        await flush();
      }
    } finally {
      await postgres.stop({ keepData: true });
    }
    if (!stop.aborted && npmEnded?.aborted !== true) throw new Error('The embedded PostgreSQL ended unexpectedly.');
    write('Stopped. The data is kept in .loom/.\n');
    return 0;
  },
});

/** Removes the database of a production `.env`, and empty variables: an empty token would hide the generated one. */
function withoutDatabase(env: CommandContext['env']): CommandContext['env'] {
  const kept = Object.entries(env).filter(([name, value]) => !/^LOOM_PG_(URL|SSL)/.test(name) && value !== '');
  return Object.fromEntries(kept);
}

function firstSteps(url: string, token: string): string {
  return `
LOOM runs at ${url} (Ctrl-C stops it and its PostgreSQL).

  export LOOM_ADMIN_TOKEN=${token}
  (umask 077; printf 'x-loom-admin-token: %s\\n' "$LOOM_ADMIN_TOKEN" > token.header)
  curl -sS ${url}/ready
  curl -sS -X PUT ${url}/v1/documents/hello -H @token.header -H "content-type: application/json" -d '{"greeting":"world"}'
  curl -sS ${url}/v1/state -H @token.header
  curl -sS ${url}/v1/admin/status -H @token.header
  curl -sS "${url}/v1/admin/persistence/backup?include_audit=true" -H @token.header > loom-backup.json

`;
}

await runProgram(process, ['dev', ...process.argv.slice(2)], dev);
