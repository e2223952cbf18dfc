// persistence/connection/ is the only door to PostgreSQL: pool, transactions, COPY, deadlines, conversion of errors. It
// imports config, domain, errors, limits and log. No other room imports pg. It must not know LOOM's tables.

import pg, { type Client, type Pool, type PoolClient } from 'pg';
import type { PostgresConfig } from '../../config/config.ts';
import type { StoreObservation } from '../../domain/store.ts';
import { limits } from '../../limits.ts';
import type { Log } from '../../log.ts';
import { cutClient, isIdle } from './client.ts';
import { type Connection, createConnection, createQueries, type Queries } from './connection.ts';
import { describeFault, isInStep, suspectsServer, throwDatabaseError } from './faults.ts';
import { createGuard } from './guard.ts';
import { assertAccepts, createHosts, type Hosts, hostOptions, openOnAnyHost } from './hosts.ts';
import { createLanes, type Lane } from './lanes.ts';
import { runTransaction, type TransactionMode } from './transaction.ts';
import { createWatch } from './watch.ts';

export interface DatabaseOptions {
  log: Log;
  /** Shown in `pg_stat_activity`. */
  applicationName: string;
  /** The servers, in an order that the probe shares. */
  hosts?: Hosts;
}

/**
 * Runs SQL on the node's pool. Its own verbs run one short statement on any connection, with the deadline
 * `limits.queryTimeoutMs`. Every verb rejects with a LoomError, and with `streams_busy` if its lane stays full.
 */
export interface Database extends Queries {
  /** Lends a connection to `use`, by default for short reads. */
  withConnection<T>(use: (connection: Connection) => Promise<T>, options?: { lane?: Lane }): Promise<T>;
  /**
   * Runs `run` in one transaction and commits. If `run` rejects, rolls back and rejects with the same error. Rejects
   * with `commit_outcome_unknown` when the connection breaks during the commit of a `write`, and with `client_gone`
   * when `signal` aborts. By default, the transaction is a stream of an operator. `timeoutMs` bounds the wait for its
   * begin and commit: others wait for this transaction. A patient one leaves the processors to others.
   */
  transaction<T>(
    mode: TransactionMode,
    run: (connection: Connection) => Promise<T>,
    options?: { signal?: AbortSignal; lane?: Lane; timeoutMs?: number; isPatient?: boolean | undefined },
  ): Promise<T>;
  /**
   * Closes the idle connections, and each lent one when it comes back. Call it when the server may have changed: the
   * connections may lead to a server that is away or no longer accepts writes.
   */
  reset(): void;
  usage(): StoreObservation['pool'];
  /** Lets running work finish, then closes all connections. After `deadlineMs`, cuts those that are still lent. */
  close(options: { deadlineMs: number }): Promise<void>;
}

/**
 * Creates the node's pool. It connects on demand, so this never fails. Lending a connection rejects after
 * `connectTimeoutMs`, whether the server is silent or all connections are in use.
 */
export function openDatabase(config: PostgresConfig, options: DatabaseOptions): Database {
  const { hosts = createHosts(config), ...names } = options;
  const lanes = createLanes({ ...config, waitMs: config.connectTimeoutMs });
  const door = createDoor(config, { ...names, hosts });
  const { pool } = door;
  const watch = createWatch(config, { ...names, hosts, onLost: door.reset });
  hosts.onMove(door.reset);
  let lent = 0;
  const countLent = (): number => lent;
  const lend = <T>(lane: Lane, use: (client: PoolClient) => Promise<T>, signal?: AbortSignal): Promise<T> => {
    lent += 1;
    return lanes.inTurn(lane, () => door.lend(use), signal);
  };
  return {
    ...createQueries(
      { query: (query) => lend('read', (client) => watch.over(client, { eager: false }).query(query)) },
      limits.queryTimeoutMs,
    ),
    withConnection: (use, { lane = 'read' } = {}) =>
      lend(lane, (client) => use(createConnection(client, { watch, countOthers: countLent }))),
    transaction: (mode, run, { signal, lane = 'operator', timeoutMs, isPatient } = {}) => {
      const use = (client: PoolClient) => {
        const watched =
          timeoutMs === undefined ? undefined : { runner: watch.over(client, { eager: true }), timeoutMs };
        const connection = createConnection(client, { watch, countOthers: countLent, isPatient });
        return runTransaction(client, connection, mode, run, { signal, watched });
      };
      return lend(lane, use, signal);
    },
    reset: door.reset,
    usage: () => ({
      total: pool.totalCount,
      idle: pool.idleCount,
      waiting: pool.waitingCount + lanes.waiting(),
      max: config.poolMax,
      streams: lanes.streams(),
    }),
    close: async ({ deadlineMs }) => {
      await closePool(pool, door.clients, deadlineMs);
      door.closeGuard();
    },
  };
}

/** Creates the pool and lends its connections, without a regard for lanes. */
function createDoor(config: PostgresConfig, { log, applicationName, hosts }: DatabaseOptions & { hosts: Hosts }) {
  /** Maps each connection to the number of resets before it began to open. */
  const resetsBefore = new WeakMap<Client, number>();
  const pool = createPool(config, { applicationName, hosts, onCreate: (client) => resetsBefore.set(client, resets) });
  const clients = new Set<Client>();
  const lent = new Set<Client>();
  const guard = createGuard(config, lent, { hosts, log, applicationName });
  const cut = new WeakSet<Client>();
  let resets = 0;
  pool.on('connect', (client) => {
    clients.add(client);
    // pg-pool listens only while a client is idle. Without a listener, a connection that breaks between two statements
    // of a transaction would end the process. The next statement reports the fault anyway.
    client.on('error', (error) => log.debug({ err: error }, `a database connection broke: ${describeFault(error)}`));
  });
  pool.on('remove', (client) => clients.delete(client));
  pool.on('error', (error, client) => {
    const level = cut.has(client) ? 'debug' : 'warn';
    log[level]({ err: error }, `an idle database connection broke: ${describeFault(error)}`);
  });
  const isStale = (client: Client): boolean => resetsBefore.get(client) !== resets;

  function reset(): void {
    resets += 1;
    for (const client of clients) {
      if (lent.has(client)) continue;
      cut.add(client);
      cutClient(client);
    }
  }

  /** Takes a connection that was opened after the last reset. */
  async function take(): Promise<PoolClient> {
    for (;;) {
      const client = await openOnAnyHost(hosts, () => pool.connect()).catch(throwDatabaseError);
      if (!isStale(client)) return client;
      client.release(true);
    }
  }

  /**
   * Lends a connection of the pool. Returns it to the pool only if the server reports no open transaction and no error
   * left the protocol out of step. Otherwise closes it, because the next borrower would hang.
   */
  async function lend<T>(use: (client: PoolClient) => Promise<T>): Promise<T> {
    const client = await take();
    lent.add(client);
    let usable = false;
    try {
      const result = await use(client);
      usable = true;
      return result;
    } catch (error) {
      usable = isInStep(error);
      // The other connections lead to the same server.
      if (suspectsServer(error) && !isStale(client)) reset();
      throw error;
    } finally {
      lent.delete(client);
      client.release(!usable || !isIdle(client) || isStale(client));
    }
  }

  return { pool, clients, lend, reset, closeGuard: guard.close };
}

function createPool(
  config: PostgresConfig,
  { applicationName, hosts, onCreate }: { applicationName: string; hosts: Hosts; onCreate: (client: Client) => void },
): Pool {
  const { connectTimeoutMs } = config;
  // pg-pool calls the class without arguments of ours, so each new connection asks for the current host.
  class HostClient extends pg.Client {
    constructor() {
      super(hostOptions(config, hosts, { host: hosts.current(), applicationName, connectTimeoutMs }));
      onCreate(this);
    }
  }
  return new pg.Pool({
    Client: HostClient,
    max: config.poolMax,
    idleTimeoutMillis: config.idleTimeoutMs,
    connectionTimeoutMillis: connectTimeoutMs,
    ...(hosts.target.accepts !== 'any' && {
      verify: (client: PoolClient, done: (error?: Error) => void) => {
        assertAccepts(client, hosts, connectTimeoutMs).then(() => done(), done);
      },
    }),
  });
}

async function closePool(pool: Pool, clients: ReadonlySet<Client>, deadlineMs: number): Promise<void> {
  if (pool.ending) return;
  const timer = setTimeout(() => {
    for (const client of clients) cutClient(client);
  }, deadlineMs);
  await pool.end().finally(() => clearTimeout(timer));
}
