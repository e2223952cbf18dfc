import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { inject } from 'vitest';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../../src/dev/postgres.ts';
import { sendSignal, waitForEnd } from '../../../src/dev/processes.ts';
import { poolPort, usesPooler } from '../roles/pooled.ts';
import { makeDataDirectory } from '../run/data-directory.ts';
import { copyCluster } from './blank-cluster.ts';
import { startServerPooler } from './pooler.ts';
import { childrenOf } from './processes.ts';

export interface PrivateServerOptions {
  /** Server settings by name. They override the defaults of private servers. */
  settings?: Record<string, string>;
  /** PEM texts that enable TLS. `required`: the server refuses connections without TLS. */
  ssl?: { certificate: string; key: string; required?: boolean };
  /** Begins as a standby that streams from the server at this URL. Both begin with the same empty cluster. */
  standbyOf?: string;
  /** An existing directory for the data, which every user can enter. */
  parent?: string;
  /** Runs `initdb` for a system identifier of its own. By default, private servers use copies of one cluster. */
  ownIdentifier?: boolean;
}

/** A PostgreSQL that a test may freeze, kill and start again. Its port and data stay the same. */
export interface PrivateServer {
  /** Superuser URL of the database `postgres`. */
  url: string;
  urlFor(database: string): string;
  port: number;
  /** Process id of the postmaster, which `startAgain` changes. */
  readonly pid: number;
  /** Sends SIGSTOP to every process of the server. Connections stay open without an answer. */
  freeze(): Promise<void>;
  thaw(): Promise<void>;
  /** Sends SIGKILL to every process, which acts like a power cut. */
  kill(): Promise<void>;
  /** Shuts the server down in the mode "fast" and keeps the data for `startAgain`. */
  shutDown(): Promise<void>;
  /** Starts the server, as a standby if it was one, or with `asStandby`. */
  startAgain(options?: { asStandby?: boolean }): Promise<void>;
  /** Ends the recovery of a standby. Resolves when the server accepts writes. */
  promote(): Promise<void>;
  /** Stops the server, frozen or not, and removes its data. May be called twice. */
  stop(): Promise<void>;
}

const PREFIX = 'loom-test-private-';

/** Starts an embedded server even if `LOOM_TEST_PG_URL` is set, because a test must not freeze a shared server. */
export async function startPrivateServer(options: PrivateServerOptions = {}): Promise<PrivateServer> {
  const dataDirectory = options.parent === undefined ? await makeDataDirectory(PREFIX) : join(options.parent, 'data');
  await mkdir(dataDirectory, { recursive: true });
  const blankCluster = options.ownIdentifier === true ? undefined : inject('blankCluster');
  if (blankCluster !== undefined) await copyCluster(blankCluster, dataDirectory);
  const start = (port: number): Promise<EmbeddedPostgres> =>
    startEmbeddedPostgres({
      dataDirectory,
      persistent: false,
      port,
      settings: {
        fsync: 'off',
        ...tlsSettings(options.ssl),
        ...standbySettings(options.standbyOf),
        ...options.settings,
      },
      // PostgreSQL starts as a standby if this file exists. A promotion removes it.
      files: { ...tlsFiles(options.ssl), ...(isStandby ? { 'standby.signal': '' } : {}) },
    });
  let isStandby = options.standbyOf !== undefined;
  let server = await start(0);
  let frozen: number[] = [];
  const pooler = usesPooler && options.ssl === undefined ? await putPoolerBefore(server) : undefined;

  const freeze = async (): Promise<void> => {
    // Stop the postmaster first, so that it cannot start a child that is missing from the list.
    sendSignal(server.pid, 'SIGSTOP');
    frozen = [server.pid, ...(await childrenOf(server.pid))];
    for (const pid of frozen) sendSignal(pid, 'SIGSTOP');
  };
  const thaw = async (): Promise<void> => {
    for (const pid of frozen.reverse()) sendSignal(pid, 'SIGCONT');
    frozen = [];
  };
  const kill = async (): Promise<void> => {
    sendSignal(server.pid, 'SIGSTOP');
    const pids = [server.pid, ...(await childrenOf(server.pid))];
    for (const pid of pids) sendSignal(pid, 'SIGKILL');
    await Promise.all(pids.map((pid) => waitForEnd(pid, 10_000)));
    frozen = [];
    await server.stop({ keepData: true });
  };
  return {
    url: server.url,
    urlFor: server.urlFor,
    port: server.port,
    get pid() {
      return server.pid;
    },
    freeze,
    thaw,
    kill,
    shutDown: async () => {
      await thaw();
      await server.stop({ keepData: true });
    },
    startAgain: async ({ asStandby = isStandby } = {}) => {
      isStandby = asStandby;
      server = await start(server.port);
    },
    promote: async () => {
      const client = new pg.Client({ connectionString: server.url });
      await client.connect();
      try {
        await client.query('select pg_promote()');
      } finally {
        await client.end();
      }
      isStandby = false;
    },
    stop: async () => {
      await thaw();
      await pooler?.stop();
      await server.stop();
      // A server that was shut down before has kept its data. It may use another directory than the copied one.
      for (const one of [server.dataDirectory, dataDirectory]) await rm(one, { recursive: true, force: true });
    },
  };
}

/** The name by which a standby is known to its primary, for `synchronous_standby_names`. */
export const STANDBY_NAME = 'standby';

function standbySettings(primaryUrl: string | undefined): Record<string, string> {
  if (primaryUrl === undefined) return {};
  const { hostname, port, username, password } = new URL(primaryUrl);
  const login = `user=${username} password=${decodeURIComponent(password)}`;
  return {
    primary_conninfo: `host=${hostname} port=${port} ${login} application_name=${STANDBY_NAME}`,
    // A standby whose primary is away tries it again at this pace.
    wal_retrieve_retry_interval: '200ms',
  };
}

/** Leads nodes through a PgBouncer to the server. */
async function putPoolerBefore({ url, port }: EmbeddedPostgres): Promise<{ stop(): Promise<void> }> {
  const pooler = await startServerPooler(url);
  const forget = poolPort(port, pooler.port);
  return {
    stop: () => {
      forget();
      return pooler.stop();
    },
  };
}

function tlsSettings(ssl: PrivateServerOptions['ssl']): Record<string, string> {
  if (ssl === undefined) return {};
  return { ssl: 'on', ssl_cert_file: 'server.crt', ssl_key_file: 'server.key' };
}

function tlsFiles(ssl: PrivateServerOptions['ssl']): Record<string, string> {
  if (ssl === undefined) return {};
  const type = ssl.required === true ? 'hostssl' : 'host';
  return {
    'server.crt': ssl.certificate,
    'server.key': ssl.key,
    'pg_hba.conf': `${type} all all 127.0.0.1/32 scram-sha-256\n`,
  };
}
