import { configSecrets, parseConfig } from '../config/config.ts';
import { openProcessLog } from '../log.ts';
import { startNode } from '../node.ts';
import { createPlainCommand, readFile, stopRequested } from './command.ts';

/** Runs a node until `stop` aborts. */
export const serve = createPlainCommand({
  name: 'serve',
  help: {
    summary: 'run a node until SIGTERM or Ctrl-C',
    about:
      'Runs a node on the PostgreSQL that LOOM_PG_URL names. At SIGTERM or Ctrl-C, it completes requests in flight and stops; ' +
      'a second one ends it at once. It also needs LOOM_ADMIN_TOKEN: see docs/configuration.md.',
    succeeds: 'stopped by SIGTERM or Ctrl-C',
    fails: 'the node could not start',
    examples: [
      'LOOM_PG_URL=postgres://loom@db.example/loom LOOM_ADMIN_TOKEN_FILE=/run/secrets/token node dist/main.js serve',
    ],
  },
  run: async ({ env, stop }) => {
    const config = parseConfig(env, { readFile });
    const { log, droppedLines, flush } = openProcessLog({ level: config.log.level, secrets: configSecrets(config) });
    try {
      const node = await startNode(config, { log, droppedLines });
      await stopRequested(stop);
      await node.close();
      return 0;
    } finally {
      await flush();
    }
  },
});
