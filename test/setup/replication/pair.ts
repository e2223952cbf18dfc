// Room `replication`: a primary and its synchronous standby, which take over from each other.

import { expect } from 'vitest';
import { type PrivateServer, startPrivateServer } from '../server/private-server.ts';
import { copyRunning, queryOn } from './copy.ts';

/** How the primary fails: by a power cut, by a freeze that leaves its connections open, or by an orderly shutdown. */
export const failures = ['kill', 'freeze', 'shutDown'] as const;
export type Failure = (typeof failures)[number];

export interface ReplicaPair {
  /** URL that names both servers. */
  url: string;
  /** URL of the server that is the primary now. */
  primaryUrl(): string;
  /** Ends the primary and promotes the standby. Resolves with the time at which the promotion ended. */
  failOver(failure: Failure): Promise<number>;
  /** Brings the failed server back as the synchronous standby, from a new copy of the primary. */
  rejoin(): Promise<void>;
  stop(): Promise<void>;
}

const settings = { wal_keep_size: '256MB', wal_retrieve_retry_interval: '100ms', hot_standby: 'on' };
const LOGIN = 'loom:loom';

/** Starts a primary and a synchronous standby. After that, no commit is acknowledged before both have it. */
export async function startPair(): Promise<ReplicaPair> {
  const servers = await Promise.all([startPrivateServer({ settings }), startPrivateServer({ settings })]);
  let [primary, standby] = servers;
  // Both servers have this role, whatever the password of the one that is copied.
  await queryOn(primary.url, `create role loom superuser login password 'loom'`);
  const directories = new Map<PrivateServer, string>();
  for (const server of servers) {
    const { rows } = await queryOn(server.url, 'show data_directory');
    directories.set(server, String(rows[0]?.data_directory));
  }
  const urlOf = (...some: PrivateServer[]): string =>
    `postgres://${LOGIN}@${some.map(({ port }) => `127.0.0.1:${port}`).join()}/postgres`;
  const directoryOf = (server: PrivateServer): string => directories.get(server) ?? '';

  const join = async (): Promise<void> => {
    const url = urlOf(primary);
    await copyRunning({ url, directory: directoryOf(primary) }, directoryOf(standby));
    await standby.startAgain();
    await queryOn(url, `alter system set synchronous_standby_names = '*'`);
    await queryOn(url, 'select pg_reload_conf()');
    const stateOfStandby = async (): Promise<unknown[]> =>
      (await queryOn(url, 'select state, sync_state as sync from pg_stat_replication')).rows;
    await expect
      .poll(stateOfStandby, { timeout: 60_000, interval: 50 })
      .toEqual([{ state: 'streaming', sync: 'sync' }]);
  };
  await standby.shutDown();
  await join();
  let isFrozen = false;
  return {
    url: urlOf(...servers),
    primaryUrl: () => urlOf(primary),
    failOver: async (failure) => {
      await primary[failure]();
      isFrozen = failure === 'freeze';
      // The settings of a standby name no other one, so the new primary waits for none.
      await queryOn(urlOf(standby), 'select pg_promote()');
      const promotedMs = performance.now();
      [primary, standby] = [standby, primary];
      return promotedMs;
    },
    rejoin: async () => {
      // A frozen server must not serve again, because it does not know of the promotion.
      if (isFrozen) await standby.kill();
      isFrozen = false;
      await join();
    },
    stop: async () => void (await Promise.all(servers.map((server) => server.stop()))),
  };
}
