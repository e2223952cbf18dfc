import { readVersion } from '../version.ts';
import { backup } from './backup.ts';
import { type Command, createPlainCommand } from './command.ts';
import { drill } from './drill.ts';
import { USAGE_EXIT_CODE } from './failure.ts';
import { healthcheck } from './healthcheck.ts';
import { inspect } from './inspect.ts';
import { migrate } from './migrate.ts';
import { restore } from './restore.ts';
import { serve } from './serve.ts';
import { status } from './status.ts';
import { undo } from './undo.ts';
import { verify } from './verify.ts';

const version = createPlainCommand({
  name: 'version',
  help: {
    summary: 'print the version',
    about: 'Prints the version of LOOM on one line.',
    succeeds: 'always',
    isConfigured: false,
    examples: ['node dist/main.js version'],
  },
  run: async ({ write }) => {
    write(`${readVersion()}\n`);
    return 0;
  },
});

/** Tells the user to use a checkout. The build leaves out `src/dev/`, which needs development dependencies. */
const dev = createPlainCommand({
  name: 'dev',
  help: {
    summary: 'run a node for development (only in a checkout: npm run dev)',
    commandLine: 'npm run dev',
    about:
      'Starts a PostgreSQL and a node on it, and prints an admin token and first requests. A build does not include this ' +
      'command: run it from a checkout.',
    isConfigured: false,
    examples: ['npm run dev'],
  },
  run: async ({ writeError }) => {
    writeError('The dev command is not part of a build: run "npm run dev" from a checkout.\n');
    return USAGE_EXIT_CODE;
  },
});

/** Lists the commands in the order in which the help shows them. */
export const commands: readonly Command[] = [
  serve,
  migrate,
  backup,
  restore,
  undo,
  status,
  drill,
  verify,
  inspect,
  healthcheck,
  dev,
  version,
];
