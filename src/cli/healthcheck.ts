import { parseListenConfig } from '../config/config.ts';
import { findLiveFault } from './client/live.ts';
import { createPlainCommand } from './command.ts';

/** Does the same as `src/healthcheck.ts`, which the image runs, and also reads `.env` and checks the variables. */
export const healthcheck = createPlainCommand({
  name: 'healthcheck',
  help: {
    summary: 'check that the node on this machine is alive: exit code 0 or 1',
    about:
      'Requests /live from the node at LOOM_HOST and LOOM_PORT. It needs no token and no database. The image runs ' +
      'dist/healthcheck.js instead, which does the same and starts faster.',
    succeeds: 'the node is alive',
    fails: 'no answer within 3 s, or a status other than 200',
    examples: ['LOOM_PORT=8787 node dist/main.js healthcheck', 'LOOM_PORT=8787 node dist/healthcheck.js'],
  },
  run: async ({ env, write }) => {
    const { host, port } = parseListenConfig(env);
    const fault = await findLiveFault(host, port);
    write(fault === undefined ? 'live\n' : `not live: ${fault}\n`);
    return fault === undefined ? 0 : 1;
  },
});
