import { rm } from 'node:fs/promises';
import { createConnection } from 'node:net';
import pg from 'pg';
import { startEmbeddedPostgres } from '../../../src/dev/postgres.ts';
import type { Depth } from '../depth.ts';
import { usesPooler } from '../roles/pooled.ts';
import { makeDataDirectory } from '../run/data-directory.ts';
import { copyCluster, createBlankCluster } from './blank-cluster.ts';

export interface TestServer {
  url: string;
  /** Whether the server and its databases stay after `stop`. */
  outlivesRun: boolean;
  /** Directory of the cluster that private servers copy. Only a run on the embedded PostgreSQL has one. */
  blankCluster?: string;
  stop(): Promise<void>;
}

/** Settings without durability, which tests do not need. The connections suffice for the pools of all workers. */
const settings = {
  fsync: 'off',
  full_page_writes: 'off',
  synchronous_commit: 'on',
  max_connections: '200',
  shared_buffers: '128MB',
  log_min_messages: 'fatal',
};

/** In a run of three minutes, autovacuum mostly starts processes that find nothing to do in a hundred databases. */
const quickSettings = { autovacuum: 'off' };

const containerStartMs = 120_000;

/** Starts the PostgreSQL of a run: the one at `LOOM_TEST_PG_URL` if set, else a container, else the embedded one. */
export async function findTestServer(depth: Depth): Promise<TestServer> {
  const url = process.env.LOOM_TEST_PG_URL;
  if (url !== undefined && url !== '') return { url, outlivesRun: true, stop: async () => undefined };
  if (await dockerAnswers()) {
    try {
      return await startContainer();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      console.warn(`Could not start a PostgreSQL container (${reason}). This run uses the embedded PostgreSQL.`);
    }
  }
  return startEmbedded(depth);
}

async function startEmbedded(depth: Depth): Promise<TestServer> {
  const isQuick = depth === 'quick';
  const blank = await createBlankCluster();
  const dataDirectory = await makeDataDirectory('loom-test-');
  const remove = async (): Promise<void> => {
    await rm(dataDirectory, { recursive: true, force: true });
    await blank.remove();
  };
  try {
    await copyCluster(blank.directory, dataDirectory);
    const server = await startEmbeddedPostgres({
      dataDirectory,
      persistent: false,
      settings: { ...settings, ...(isQuick ? quickSettings : {}) },
      files: isQuick && !usesPooler ? { 'pg_hba.conf': 'host all all 127.0.0.1/32 password\n' } : {},
    });
    if (isQuick) await shortenPasswordCheck(server.url);
    return {
      url: server.url,
      outlivesRun: false,
      blankCluster: blank.directory,
      stop: () => server.stop().finally(remove),
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

/**
 * Stores the password with one iteration of its hash. With it, and without SCRAM, a connection takes half the CPU time,
 * and a run opens thousands. Private servers and full runs use SCRAM, and so does PgBouncer for the roles of tests.
 */
async function shortenPasswordCheck(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const password = client.escapeLiteral(decodeURIComponent(new URL(url).password));
    await client.query(`set scram_iterations = 1; alter role postgres password ${password}`);
  } finally {
    await client.end();
  }
}

async function startContainer(): Promise<TestServer> {
  const { GenericContainer, Wait } = await import('testcontainers');
  const password = 'loom-test-password';
  const container = await new GenericContainer('postgres:18')
    .withEnvironment({ POSTGRES_PASSWORD: password })
    .withCommand(['postgres', ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])])
    .withExposedPorts(5432)
    // The image starts the server twice, first for its set-up. The log is empty: only the port shows the second start.
    .withWaitStrategy(Wait.forAll([Wait.forListeningPorts(), Wait.forSuccessfulCommand('pg_isready -h 127.0.0.1')]))
    .withStartupTimeout(containerStartMs)
    .start();
  return {
    outlivesRun: false,
    url: `postgresql://postgres:${password}@${container.getHost()}:${container.getMappedPort(5432)}/postgres`,
    stop: async () => {
      await container.stop();
    },
  };
}

/** Returns whether the container engine answers on its socket within half a second. */
function dockerAnswers(): Promise<boolean> {
  const host = new URL(process.env.DOCKER_HOST ?? 'unix:///var/run/docker.sock');
  const target =
    host.protocol === 'unix:'
      ? { path: host.pathname }
      : { host: host.hostname, port: Number(host.port === '' ? 2375 : host.port) };
  return new Promise((resolve) => {
    const socket = createConnection(target);
    const settle = (answers: boolean): void => {
      socket.destroy();
      resolve(answers);
    };
    socket.setTimeout(500, () => settle(false));
    socket.once('error', () => settle(false));
    socket.once('connect', () => socket.write('GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n'));
    socket.once('data', (data) => settle(data.toString('latin1').startsWith('HTTP/1.')));
  });
}
