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
    const host = { host: client.host, port: client.port };
    const options = { host, applicationName, connectTimeoutMs: limits.suspectLookMs * hosts.target.hosts.length };
    const looker = new pg.Client(hostOptions(config, hosts, options));
    // Without a listener, a connection that breaks would end the process. The query reports the fault anyway.
    looker.on('error', () => undefined);
    // One deadline covers both the connection and the query.
    const deadline = setTimeout(() => cutClient(looker), limits.suspectLookMs);
    try {
      await looker.connect();
      const { rows } = await looker.query<Sighting>(SIGHTING, [markerOf(marker)]);
      return judge(rows[0]);
    } catch (error) {
      return { isWorking: false, isAway: true, reason: `the server cannot be asked: ${describeFault(error)}` };
    } finally {
      clearTimeout(deadline);
      cutClient(looker);
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
