import { configSecrets } from '../config/config.ts';
import { createLogger } from '../log.ts';
import { startNode } from '../node.ts';
import { type Command, readConfig, stopRequested } from './command.ts';

/** Runs a node until it is asked to stop. */
export const serve: Command = {
  summary: 'run a node until SIGTERM or Ctrl-C',
  run: async ({ env, stop }) => {
    const config = readConfig(env);
    const log = createLogger({ level: config.log.level, secrets: configSecrets(config) });
    const node = await startNode(config, { log });
    await stopRequested(stop);
    await node.close();
    return 0;
  },
};
