import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { startEmbeddedPostgres } from '../../src/dev/postgres.ts';
import { buildProgram } from '../setup/node/built.ts';
import { type Program, startProgram, waitUntilReady } from '../setup/node/program.ts';

/** The environment of a benchmark: one durable server and the built program. */
export interface BenchServer {
  /** Folder for files, removed at the end. */
  directory: string;
  /** The program's `main.js`. */
  entry: string;
  /** Creates a database and returns its URL. */
  createDatabase(name: string, template?: string): Promise<string>;
  dropDatabase(name: string): Promise<void>;
  /** Starts a node on the database of this URL and waits until it is ready. */
  startNode(databaseUrl: string): Promise<Program>;
  /** Flushes dirty pages, so that the next measurement does not include work of the previous one. */
  checkpoint(): Promise<void>;
}

export const TOKEN = 'benchmark-admin-token';

export async function withBenchServer(
  run: (server: BenchServer) => Promise<void>,
  settings: Record<string, string> = {},
): Promise<void> {
  const built = await buildProgram();
  const directory = await mkdtemp(join(tmpdir(), 'loom-bench-'));
  try {
    await runOnServer(run, { directory, entry: built.entry, settings });
  } finally {
    await built.remove();
    await rm(directory, { recursive: true, force: true });
  }
}

async function runOnServer(
  run: (server: BenchServer) => Promise<void>,
  { directory, entry, settings }: { directory: string; entry: string; settings: Record<string, string> },
): Promise<void> {
  const server = await startEmbeddedPostgres({
    dataDirectory: join(directory, 'data'),
    persistent: false,
    settings: { fsync: 'on', synchronous_commit: 'on', ...settings },
  });
  try {
    await run({
      directory,
      entry,
      createDatabase: async (name, template = 'template0') => {
        await execute(server.url, `create database ${name} template ${template} encoding 'UTF8'`);
        return server.urlFor(name);
      },
      dropDatabase: (name) => execute(server.url, `drop database ${name} with (force)`),
      startNode: async (databaseUrl) => {
        const env = { LOOM_PG_URL: databaseUrl, LOOM_ADMIN_TOKEN: TOKEN, LOOM_LOG_LEVEL: 'info' };
        const node = await startProgram({ env, entry });
        await waitUntilReady(node.url);
        return node;
      },
      checkpoint: () => execute(server.url, 'checkpoint'),
    });
  } finally {
    await server.stop();
  }
}

/** Runs statements on a new connection. */
export async function execute(url: string, text: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(text);
  } finally {
    await client.end();
  }
}
