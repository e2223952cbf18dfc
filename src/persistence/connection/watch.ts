import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import pg, { type Client, type PoolClient } from 'pg';
import type { PostgresConfig } from '../../config/config.ts';
import { limits } from '../../limits.ts';
import type { Log } from '../../log.ts';
import { cutClient, type Runner } from './client.ts';
import { describeFault, isQueryTimeout, sqlStateOf } from './faults.ts';
import { type Hosts, hostOptions } from './hosts.ts';

/** Says what the server does with a statement that has had no answer. */
type Finding = { isWorking: boolean; reason: string; isAway: boolean };

export interface Watch {
  /**
   * Returns a runner whose statements fail soon after their server or their connection has gone silent. `eager`: the
   * watch asks about each statement. Otherwise it asks about one at a time, so that a slow server is not asked by all.
   */
  over(client: Client | PoolClient, options: { eager: boolean }): Runner;
}

/** Describes a statement that has no answer yet. */
interface Pending {
  client: Client | PoolClient;
  marker: string;
  eager: boolean;
}

/**
 * Watches statements that may take long. A silent connection looks like a slow statement: TCP reports a lost peer only
 * after minutes, and Node cannot set TCP_USER_TIMEOUT. So after `limits.suspectAfterMs` without an answer, and the time
 * in which a large statement arrives, the watch asks the same server over a new connection whether it still executes
 * the statement. If not, it cuts the old one. If the server has been away twice, it cuts all that wait for this server.
 * Once proves too little for reads, which are not sent again: a busy server may be slow to accept a connection.
 */
export function createWatch(
  config: PostgresConfig,
  { hosts, applicationName, log, onLost }: { hosts: Hosts; applicationName: string; log: Log; onLost: () => void },
): Watch {
  const pending = new Set<Pending>();
  const name = randomUUID();
  let statements = 0;
  /** Counts the findings in a row that a server is away. Findings of the same moment count once. */
  const misses = new Map<string, { count: number; atMs: number }>();
  let looking = 0;

  function note(server: string, { isAway }: Finding): number {
    const atMs = performance.now();
    const last = misses.get(server) ?? { count: 0, atMs };
    const sinceMs = atMs - last.atMs;
    if (isAway && last.count > 0 && sinceMs < limits.suspectLookMs) return last.count;
    const before = sinceMs < 2 * (limits.suspectAfterMs + limits.suspectLookMs) ? last.count : 0;
    const count = isAway ? before + 1 : 0;
    misses.set(server, { count, atMs });
    return count;
  }

  async function look({ client, marker }: Pending): Promise<Finding> {
    const question = { text: SIGHTING, values: [markerOf(marker)], deadlineMs: limits.suspectLookMs };
    looking += 1;
    try {
      const [seen] = await askSameServer<Sighting>(client, question, { config, hosts, applicationName });
      return judge(seen);
    } catch (error) {
      const reason = `the server cannot be asked: ${describeFault(error)}`;
      // A server that refuses the question, for example because it has no connection left, may still be working.
      const isAway = /^(57P|08|$)/.test(sqlStateOf(error) ?? '');
      return { isWorking: !isAway, isAway, reason };
    } finally {
      looking -= 1;
    }
  }

  /**
   * Cancels a short statement whose answer nobody awaits any more. Otherwise the server would go on executing it. Never
   * cancels a commit: `loom_commit` has a bound of its own, and a cancel could end the wait for a synchronous standby.
   */
  async function cancel({ client, marker }: Pending): Promise<void> {
    const question = { text: CANCEL, values: [markerOf(marker)], deadlineMs: limits.suspectLookMs };
    await askSameServer(client, question, { config, hosts, applicationName }).catch((error: unknown) =>
      log.debug({ err: error }, `a statement could not be cancelled: ${describeFault(error)}`),
    );
  }

  function leave({ client }: Pending, { isAway, reason }: Finding, count: number): void {
    log.warn(`a statement has no answer, so the node leaves its database connection: ${reason}`);
    if (isAway) hosts.failedAt(client);
    onLost();
    cutClient(client);
    if (count < 2) return;
    for (const other of pending) if (serverOf(other.client) === serverOf(client)) cutClient(other.client);
  }

  async function supervise(one: Pending, answered: AbortSignal): Promise<void> {
    const pause = (ms: number) => sleep(ms, undefined, { signal: answered }).catch(() => undefined);
    for (; !answered.aborted; await pause(limits.suspectAfterMs)) {
      if (looking > 0 && !one.eager) continue;
      const finding = await look(one);
      const count = note(serverOf(one.client), finding);
      if (finding.isWorking || (count === 1 && !one.eager)) continue;
      // The answer may be on its way.
      if (!finding.isAway) await pause(limits.suspectGraceMs);
      if (!answered.aborted) leave(one, finding, count);
      return;
    }
  }

  return {
    over: (client, { eager }) => ({
      query: async (query) => {
        statements += 1;
        const one: Pending = { client, marker: `${name}.${statements}`, eager };
        pending.add(one);
        // Hardly any statement is late, and a controller costs as much as the rest of a short one.
        let answered: AbortController | undefined;
        const suspect = (): void => {
          answered = new AbortController();
          void supervise(one, answered.signal);
        };
        const suspicion = setTimeout(suspect, limits.suspectAfterMs + sendingMs(query.values));
        try {
          // As in `createConnection`, a spread before other members would cost more than the rest.
          const marked = { ...query };
          marked.text = `${markerOf(one.marker)} ${query.text}`;
          return await client.query(marked);
        } catch (error) {
          if (isQueryTimeout(error) && !eager) void cancel(one);
          throw error;
        } finally {
          clearTimeout(suspicion);
          pending.delete(one);
          answered?.abort();
        }
      },
    }),
  };
}

/** Returns the time in which these values reach the server even over a slow line. */
function sendingMs(values: unknown[]): number {
  const characters = values.reduce((sum: number, one) => sum + (typeof one === 'string' ? one.length : 0), 0);
  return Math.round((1_000 * characters) / limits.minDatabaseBytesPerSecond);
}

function serverOf({ host, port }: Client): string {
  return `${host} ${port}`;
}

/** Asks the server of an open connection over a new one. Rejects if no answer comes within the deadline. */
export async function askSameServer<Row extends object>(
  { host, port }: Client,
  { text, values, deadlineMs }: { text: string; values: unknown[]; deadlineMs: number },
  { config, hosts, applicationName }: { config: PostgresConfig; hosts: Hosts; applicationName: string },
): Promise<Row[]> {
  // The time to connect is not shared: there is only one host to ask.
  const connectTimeoutMs = deadlineMs * hosts.target.hosts.length;
  const asker = new pg.Client(hostOptions(config, hosts, { host: { host, port }, applicationName, connectTimeoutMs }));
  // Without a listener, a connection that breaks would end the process. The query reports the fault anyway.
  asker.on('error', () => undefined);
  // One deadline covers both the connection and the query.
  const deadline = setTimeout(() => cutClient(asker), deadlineMs);
  try {
    await asker.connect();
    return (await asker.query<Row>(text, values)).rows;
  } finally {
    clearTimeout(deadline);
    cutClient(asker);
  }
}

interface Sighting {
  sees_texts: boolean;
  state: string | null;
  wait_event: string | null;
}

/** Marks the text of a statement. Behind a pooler, the process id of a connection is not that of a server process. */
function markerOf(marker: string): string {
  return `/* loom:${marker} */`;
}

const SIGHTING = `
  select current_setting('track_activities')::bool as sees_texts, a.state, a.wait_event
    from (select) one
    left join pg_stat_activity a on a.datname = current_database() and starts_with(a.query, $1)
   order by a.state = 'active' desc nulls last limit 1`;

const CANCEL = `
  select pg_cancel_backend(pid) from pg_stat_activity
   where datname = current_database() and state = 'active' and starts_with(query, $1)
     and wait_event is distinct from 'SyncRep'`;

function judge(seen: Sighting | undefined): Finding {
  const away = { isWorking: false, isAway: false };
  // The server does not record statements, so it cannot be told.
  if (seen === undefined || !seen.sees_texts) return { ...away, isWorking: true, reason: 'unknown' };
  if (seen.state === null) return { ...away, reason: 'the server does not know the statement' };
  if (seen.state !== 'active') return { ...away, reason: 'the server has answered, and the answer was lost' };
  if (seen.wait_event === 'ClientRead') return { ...away, reason: 'the server waits for the rest of the statement' };
  return { ...away, isWorking: true, reason: 'the server executes the statement' };
}
