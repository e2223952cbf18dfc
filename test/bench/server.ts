import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { startEmbeddedPostgres } from '../../src/dev/postgres.ts';
import { buildProgram } from '../setup/node/built.ts';
import { type Program, startProgram, waitUntilReady } from '../setup/node/program.ts';
import { environment } from './results.ts';

/** The environment of a benchmark: one durable server and the built program. */
export interface BenchServer {
  /** Folder for files, removed at the end. */
  directory: string;
  /** The program's `main.js`. */
  entry: string;
  /** Creates a database and returns its URL. */
  createDatabase(name: string, template?: string): Promise<string>;
  dropDatabase(name: string): Promise<void>;
  /** Starts a node on the database of this URL and waits until it is ready. `env` adds or replaces variables. */
  startNode(databaseUrl: string, env?: Record<string, string>): Promise<Program>;
  /** Flushes dirty pages, so that the next measurement does not include work of the previous one. */
  checkpoint(): Promise<void>;
}

export const TOKEN = 'benchmark-admin-token';

/**
 * Runs a benchmark on the PostgreSQL at `LOOM_TEST_PG_URL` if set, else on the embedded one. `settings` apply to the
 * whole server, and only during the run.
 */
export async function withBenchServer<T>(
  run: (server: BenchServer) => Promise<T>,
  settings: Record<string, string> = {},
): Promise<T> {
  const built = await buildProgram();
  const directory = await mkdtemp(join(tmpdir(), 'loom-bench-'));
  try {
    return await runOnServer(run, { directory, entry: built.entry, settings });
  } finally {
    await built.remove();
    await rm(directory, { recursive: true, force: true });
  }
}

interface Surroundings {
  directory: string;
  entry: string;
  settings: Record<string, string>;
}

async function runOnServer<T>(
  run: (server: BenchServer) => Promise<T>,
  { directory, entry, settings }: Surroundings,
): Promise<T> {
  const server = await findServer(directory, settings);
  const databases = new Set<string>();
  let nodes = 0;
  const drop = async (name: string): Promise<void> => {
    await execute(server.url, `drop database if exists ${name} with (force)`);
    databases.delete(name);
  };
  try {
    environment.postgres = await query(server.url, 'show server_version');
    return await run({
      directory,
      entry,
      createDatabase: async (name, template = 'template0') => {
        await drop(name);
        await execute(server.url, `create database ${name} template ${template} encoding 'UTF8'`);
        databases.add(name);
        return Object.assign(new URL(server.url), { pathname: `/${name}` }).href;
      },
      dropDatabase: drop,
      startNode: async (databaseUrl, env = {}) => {
        const variables = { LOOM_PG_URL: databaseUrl, LOOM_ADMIN_TOKEN: TOKEN, LOOM_LOG_LEVEL: 'info', ...env };
        nodes += 1;
        const node = await startProgram({ env: variables, entry, logFile: join(directory, `node-${nodes}.log`) });
        await waitUntilReady(node.url);
        return node;
      },
      checkpoint: () => execute(server.url, 'checkpoint'),
    });
  } finally {
    for (const name of databases) await drop(name);
    await server.stop();
  }
}

interface Server {
  url: string;
  stop(): Promise<void>;
}

async function findServer(directory: string, settings: Record<string, string>): Promise<Server> {
  const url = process.env.LOOM_TEST_PG_URL;
  if (url === undefined || url === '') {
    return startEmbeddedPostgres({
      dataDirectory: join(directory, 'data'),
      persistent: false,
      settings: { fsync: 'on', synchronous_commit: 'on', ...settings },
    });
  }
  if ((await query(url, 'show fsync')) !== 'on') {
    throw new Error('The PostgreSQL at LOOM_TEST_PG_URL runs with fsync off. Its commits are not durable.');
  }
  const names = Object.keys(settings);
  const apply = async (statements: string[]): Promise<void> => {
    for (const statement of [...statements, 'select pg_reload_conf()']) await execute(url, statement);
  };
  await apply(names.map((name) => `alter system set ${name} = '${settings[name]}'`));
  return { url, stop: () => apply(names.map((name) => `alter system reset ${name}`)) };
}

/** Runs statements on a new connection. */
export async function execute(url: string, text: string): Promise<void> {
  await query(url, text);
}

/** Runs statements on a new connection. Returns the first column of the first row of the last one as text. */
export async function query(url: string, text: string): Promise<string> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const result = await client.query({ text, rowMode: 'array' });
    const last = [result].flat().at(-1);
    return String(last?.rows[0]?.[0] ?? '');
  } finally {
    await client.end();
  }
}
