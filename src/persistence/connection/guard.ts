import { Socket } from 'node:net';
import type { Client } from 'pg';
import type { PostgresConfig } from '../../config/config.ts';
import { limits } from '../../limits.ts';
import type { Log } from '../../log.ts';
import { cutClient } from './client.ts';
import { sqlStateOf } from './faults.ts';
import type { Hosts } from './hosts.ts';
import { askSameServer } from './watch.ts';

export interface GuardOptions {
  hosts: Hosts;
  log: Log;
  applicationName: string;
  /** Time between two checks. */
  checkMs?: number;
  /** Time to wait for the server's answer. */
  lookMs?: number;
}

/**
 * Cuts lent connections whose server has gone without a word: a stream has no deadline, and would otherwise keep its
 * share of the pool. A connection that carried bytes since the last check is alive. For the others, the guard asks
 * their server over a new connection, and cuts them after `limits.maxServerMisses` checks in a row without an answer.
 */
export function createGuard(config: PostgresConfig, lent: Iterable<Client>, options: GuardOptions) {
  const { hosts, log, applicationName, checkMs = limits.streamCheckMs, lookMs = limits.streamLookMs } = options;
  let seen = new Map<Client, { bytes: number; misses: number }>();
  let checking = false;

  async function isAway(client: Client): Promise<boolean> {
    const question = { text: 'select 1', values: [], deadlineMs: lookMs };
    return askSameServer(client, question, { config, hosts, applicationName }).then(
      () => false,
      // A server that refuses a connection answers.
      (error: unknown) => sqlStateOf(error) === undefined,
    );
  }

  async function check(): Promise<void> {
    const before = seen;
    seen = new Map([...lent].map((client) => [client, { bytes: bytesOf(client), misses: 0 }]));
    const answers = new Map<string, Promise<boolean>>();
    for (const [client, now] of seen) {
      const last = before.get(client);
      if (last === undefined || last.bytes !== now.bytes) continue;
      const server = `${client.host} ${client.port}`;
      const answer = answers.get(server) ?? isAway(client);
      answers.set(server, answer);
      if (!(await answer)) continue;
      now.misses = last.misses + 1;
      if (now.misses < limits.maxServerMisses || bytesOf(client) !== now.bytes) continue;
      log.warn(`a database connection in use is cut: its server did not answer ${now.misses} checks in a row`);
      cutClient(client);
    }
  }

  const timer = setInterval(() => {
    if (checking) return;
    checking = true;
    void check().finally(() => {
      checking = false;
    });
  }, checkMs);
  timer.unref();
  return { close: (): void => clearInterval(timer) };
}

function bytesOf({ connection: { stream } }: Client): number {
  return stream instanceof Socket ? stream.bytesRead + stream.bytesWritten : 0;
}
