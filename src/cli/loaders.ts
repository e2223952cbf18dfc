import { readVersion } from '../version.ts';
import { type Command, createPlainCommand } from './command.ts';
import { USAGE_EXIT_CODE } from './failure.ts';

export const version = createPlainCommand({
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
export const dev = createPlainCommand({
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

const loaders: Readonly<Record<string, () => Promise<Command>>> = {
  serve: async () => (await import('./serve.ts')).serve,
  migrate: async () => (await import('./database/migrate.ts')).migrate,
  reindex: async () => (await import('./database/reindex.ts')).reindex,
  backup: async () => (await import('./backup.ts')).backup,
  backups: async () => (await import('./backups.ts')).backups,
  restore: async () => (await import('./restore.ts')).restore,
  undo: async () => (await import('./undo.ts')).undo,
  status: async () => (await import('./status.ts')).status,
  drill: async () => (await import('./drill.ts')).drill,
  verify: async () => (await import('./verify.ts')).verify,
  inspect: async () => (await import('./inspect.ts')).inspect,
  healthcheck: async () => (await import('./healthcheck.ts')).healthcheck,
  dev: async () => dev,
  version: async () => version,
};

/** Loads one command, so that no command pays for the modules of another. Resolves with undefined for another name. */
export async function loadCommand(name: string): Promise<Command | undefined> {
  return Object.hasOwn(loaders, name) ? await loaders[name]?.() : undefined;
}
