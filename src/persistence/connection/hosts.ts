import pg, { type Client, type ClientConfig } from 'pg';
import type { PostgresConfig } from '../../config/config.ts';
import { type PostgresHost, type PostgresTarget, parsePostgresUrl } from '../../config/postgres-url.ts';
import { connectionOptions } from './client.ts';
import { type Fault, faultOf, ReadOnlyServerError } from './faults.ts';

/** Knows which of the servers of `LOOM_PG_URL` served last. The pool and the probe of a node share it. */
export interface Hosts {
  readonly target: PostgresTarget;
  /** Returns the server for the next connection. */
  current(): PostgresHost;
  /** Moves on to the next server, in the order of the URL. Has no effect if `host` is no longer the current one. */
  failed(host: PostgresHost): void;
  /** Does the same for the server that a connection leads to. */
  failedAt(client: Client): void;
  /** Adds a listener for each move to another server. */
  onMove(listener: () => void): void;
}

export function createHosts({ url }: PostgresConfig): Hosts {
  const target = parsePostgresUrl(url);
  if ('fault' in target) throw new Error(`LOOM_PG_URL ${target.fault}`);
  const { hosts } = target;
  const listeners: (() => void)[] = [];
  let index = 0;
  const current = (): PostgresHost => hosts[index] ?? { host: undefined, port: undefined };
  const failed = (host: PostgresHost): void => {
    if (hosts.length === 1 || host !== current()) return;
    index = (index + 1) % hosts.length;
    for (const listener of listeners) listener();
  };
  return {
    target,
    current,
    failed,
    failedAt: ({ host, port }) => {
      const now = current();
      // pg has replaced an undefined host or port by its default.
      if ((now.host ?? host) === host && (now.port ?? port) === port) failed(now);
    },
    onMove: (listener) => void listeners.push(listener),
  };
}

/** Returns the options of a connection to `host`. The hosts share the time to connect, so a dead one leaves some. */
export function hostOptions(
  config: PostgresConfig,
  { target }: Hosts,
  {
    host,
    applicationName,
    connectTimeoutMs,
  }: { host: PostgresHost; applicationName: string; connectTimeoutMs: number },
): ClientConfig {
  return {
    ...connectionOptions(config, target, applicationName),
    host: host.host,
    port: host.port,
    connectionTimeoutMillis: Math.ceil(connectTimeoutMs / target.hosts.length),
  };
}

/** Calls `open` for one server after another until a connection is open and accepted. */
export async function openOnAnyHost<T>(hosts: Hosts, open: (host: PostgresHost) => Promise<T>): Promise<T> {
  const errors: unknown[] = [];
  for (;;) {
    const host = hosts.current();
    try {
      return await open(host);
    } catch (error) {
      if (!triesNext.has(faultOf(error))) throw error;
      hosts.failed(host);
      errors.push(error);
      // A server that answers tells more than one that is away.
      const told = errors.find((one) => faultOf(one) === 'read_only') ?? errors[0];
      if (errors.length >= hosts.target.hosts.length) throw told;
    }
  }
}

const triesNext: ReadonlySet<Fault> = new Set(['unavailable', 'read_only', 'overloaded']);

/** Opens a connection to the first server that accepts one, and that accepts writes if the URL asks for that. */
export async function openClient(
  config: PostgresConfig,
  hosts: Hosts,
  options: { applicationName: string; connectTimeoutMs: number; onClient: (client: Client) => void },
): Promise<Client> {
  return openOnAnyHost(hosts, async (host) => {
    const client = new pg.Client(hostOptions(config, hosts, { host, ...options }));
    options.onClient(client);
    await client.connect();
    await assertAccepts(client, hosts, options.connectTimeoutMs).catch((error: unknown) => {
      client.connection.stream.destroy();
      throw error;
    });
    return client;
  });
}

/** Throws a ReadOnlyServerError unless the server is of the kind that the URL asks for. */
export async function assertAccepts(
  client: Pick<Client, 'query'>,
  { target }: Hosts,
  timeoutMs: number,
): Promise<void> {
  if (target.accepts === 'any') return;
  // pg accepts `query_timeout` for a single query, but its types do not declare it.
  const query = { text: ACCEPTS, query_timeout: Math.ceil(timeoutMs / target.hosts.length) };
  const { rows } = await client.query<{ is_standby: boolean; is_read_only: boolean }>(query);
  const isRefused = rows[0]?.is_standby !== false || (target.accepts === 'read-write' && rows[0].is_read_only);
  if (isRefused) throw new ReadOnlyServerError();
}

const ACCEPTS = `select pg_is_in_recovery() as is_standby, current_setting('transaction_read_only') = 'on' as is_read_only`;
