import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import pg, { type Client, type PoolClient } from 'pg';
import type { PostgresConfig } from '../../config/config.ts';
import { limits } from '../../limits.ts';
import type { Log } from '../../log.ts';
import { cutClient, type Runner } from './client.ts';
import { describeFault } from './faults.ts';
import { type Hosts, hostOptions } from './hosts.ts';

/** Says what the server does with a statement that has had no answer. */
type Finding = { isWorking: boolean; reason: string; isAway: boolean };

export interface Watch {
  /** Returns a runner whose statements fail soon after their server or their connection has gone silent. */
  over(client: Client | PoolClient): Runner;
}

/**
 * Watches statements that may take long. A silent connection looks like a slow statement: TCP reports a lost peer only
 * after minutes, and Node cannot set TCP_USER_TIMEOUT. So after `limits.suspectAfterMs` without an answer, the watch
 * asks the same server over a new connection whether it still executes the statement. If not, it cuts the old one.
 */
export function createWatch(
  config: PostgresConfig,
  { hosts, applicationName, log, onLost }: { hosts: Hosts; applicationName: string; log: Log; onLost: () => void },
): Watch {
  async function look(client: Client | PoolClient, marker: string): Promise<Finding> {
    const question = { text: SIGHTING, values: [markerOf(marker)], deadlineMs: limits.suspectLookMs };
    try {
      const [seen] = await askSameServer<Sighting>(client, question, { config, hosts, applicationName });
      return judge(seen);
    } catch (error) {
      return { isWorking: false, isAway: true, reason: `the server cannot be asked: ${describeFault(error)}` };
    }
  }

  async function supervise(client: Client | PoolClient, marker: string, answered: AbortSignal): Promise<void> {
    const pause = (ms: number) => sleep(ms, undefined, { signal: answered }).catch(() => undefined);
    for (;;) {
      await pause(limits.suspectAfterMs);
      if (answered.aborted) return;
      const finding = await look(client, marker);
      if (finding.isWorking) continue;
      // The answer may be on its way.
      if (!finding.isAway) await pause(limits.suspectGraceMs);
      if (answered.aborted) return;
      log.warn(`a commit has no answer, so the node leaves its database connection: ${finding.reason}`);
      if (finding.isAway) hosts.failedAt(client);
      onLost();
      cutClient(client);
      return;
    }
  }

  return {
    over: (client) => ({
      query: async (query) => {
        const marker = randomUUID();
        const answered = new AbortController();
        const supervision = supervise(client, marker, answered.signal);
        try {
          return await client.query({ ...query, text: `${markerOf(marker)} ${query.text}` });
        } finally {
          answered.abort();
          await supervision;
        }
      },
    }),
  };
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

function judge(seen: Sighting | undefined): Finding {
  const away = { isWorking: false, isAway: false };
  // The server does not record statements, so it cannot be told.
  if (seen === undefined || !seen.sees_texts) return { ...away, isWorking: true, reason: 'unknown' };
  if (seen.state === null) return { ...away, reason: 'the server does not know the statement' };
  if (seen.state !== 'active') return { ...away, reason: 'the server has answered, and the answer was lost' };
  if (seen.wait_event === 'ClientRead') return { ...away, reason: 'the server waits for the rest of the statement' };
  return { ...away, isWorking: true, reason: 'the server executes the statement' };
}
