import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { sendSignal, startOfProcess } from '../../src/dev/processes.ts';
import { waitUntil } from '../setup/node/program.ts';
import type { PrivateServer } from '../setup/server/private-server.ts';
import { childrenOf } from '../setup/server/processes.ts';
import type { FaultKind, PlannedFault } from './plan.ts';
import type { Site, SiteNode } from './site.ts';

/** How the database changed into another copy: a promotion, which may have lost commits. */
export interface Promotion {
  isLossy: boolean;
}

/** Ends a fault. Resolves when the database or the node that had it works again. */
type End = () => Promise<Promotion | undefined>;

/** Begins a fault. */
export async function inject(site: Site, { kind, choice }: PlannedFault): Promise<End> {
  const end = await faults[kind](site, choice);
  return async () => (await end()) ?? undefined;
}

type Begin = (site: Site, choice: number) => Promise<() => unknown>;

const faults: Record<FaultKind, (...given: Parameters<Begin>) => Promise<() => Promise<Promotion | undefined>>> = {
  'server-freeze': plain(async ({ primary }) => {
    await primary.freeze();
    return primary.thaw;
  }),
  'server-kill': plain(async ({ primary }) => {
    await primary.kill();
    return () => primary.startAgain();
  }),
  'server-restart': plain(async ({ primary }) => {
    await primary.shutDown();
    return () => primary.startAgain();
  }),
  'server-crash': plain(async ({ primary }, choice) => {
    // When one process of the server is killed, PostgreSQL ends all others and recovers.
    const pids = await childrenOf(primary.pid);
    const victim = pids[choice % pids.length];
    if (victim !== undefined) sendSignal(victim, 'SIGKILL');
    return () => revive(primary);
  }),
  'server-read-only': plain(async ({ primary }) => {
    await setReadOnly(primary, true);
    return () => setReadOnly(primary, false);
  }),
  'server-recovery': async ({ primary }) => {
    await primary.shutDown();
    await primary.startAgain({ asStandby: true });
    return async () => {
      await primary.promote();
      return { isLossy: false };
    };
  },
  'disk-full': plain(async ({ disk, primary }) => {
    await disk?.fill();
    return async () => {
      await disk?.free();
      await revive(primary);
    };
  }),
  'line-blackhole': plain(async ({ line }) => {
    line.hold();
    return line.heal;
  }),
  'line-delay': plain(async ({ line }, choice) => {
    line.delay(10 + (choice % 150));
    return line.heal;
  }),
  'line-drop': plain(async ({ line }, choice) => {
    line.reset();
    const timer = setInterval(line.reset, 100 + (choice % 400));
    return () => clearInterval(timer);
  }),
  'line-lost-answers': plain(async ({ line }) => {
    line.loseAnswers();
    return line.heal;
  }),
  'pooler-restart': plain(async ({ pooler }) => {
    await pooler?.kill();
    return () => pooler?.startAgain();
  }),
  'pooler-pause': plain(async ({ pooler }) => {
    // It pauses when the transactions in flight have ended.
    await pooler?.pause();
    return () => pooler?.resume();
  }),
  'standby-stop': plain(async ({ standby }, choice) => {
    if (choice % 2 === 0) {
      await standby?.freeze();
      return () => standby?.thaw();
    }
    await standby?.kill();
    return () => standby?.startAgain();
  }),
  'promote-synchronous': async ({ primary, standby }, choice) => {
    if (choice % 2 === 0) await primary.kill();
    else await primary.freeze();
    return async () => {
      await standby?.promote();
      return { isLossy: false };
    };
  },
  'promote-lossy': async ({ primary, standby, replication }, choice) => {
    // From now on, the standby lacks the commits.
    replication?.hold();
    return async () => {
      if (choice % 2 === 0) await primary.kill();
      else await primary.freeze();
      await sleep(300);
      await standby?.promote();
      return { isLossy: true };
    };
  },
  'node-freeze': onNode(async (node) => {
    node.freeze();
    return async () => node.thaw();
  }),
  'node-kill': onNode(async (node) => {
    await node.kill();
    return node.start;
  }),
  'node-restart': onNode(async (node) => {
    await node.stop();
    return node.start;
  }),
  'node-clock': onNode(async (node, choice) => {
    await node.setClock(['+3600', '-86400', '+864000', '-30'][choice % 4] ?? '');
    return () => node.setClock('+0');
  }),
  'haproxy-reload': plain(async ({ balancer }) => {
    balancer?.reload?.();
    return () => balancer?.reload?.();
  }),
};

/** A fault that leaves the same copy of the database. */
function plain(begin: Begin): (...given: Parameters<Begin>) => Promise<() => Promise<undefined>> {
  return async (...given) => {
    const end = await begin(...given);
    return async () => {
      await end();
      return undefined;
    };
  };
}

function onNode(begin: (node: SiteNode, choice: number) => Promise<() => Promise<void>>) {
  return plain(({ nodes }, choice) => {
    const node = nodes[choice % nodes.length];
    if (node === undefined) throw new Error('a site has a node');
    return begin(node, Math.floor(choice / nodes.length));
  });
}

/** Runs a statement as superuser, past every proxy. */
async function runOn(server: PrivateServer, ...statements: string[]): Promise<void> {
  const client = new pg.Client({ connectionString: server.url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}

function setReadOnly(server: PrivateServer, isOn: boolean): Promise<void> {
  const change = `alter system set default_transaction_read_only = ${isOn ? 'on' : 'off'}`;
  return runOn(server, change, 'select pg_reload_conf()');
}

/** Starts a server again if a full disk has ended it, as an operator does. Resolves when it answers. */
async function revive(server: PrivateServer): Promise<void> {
  await waitUntil(
    async () => {
      if ((await startOfProcess(server.pid)) === undefined) {
        await server.shutDown();
        await server.startAgain();
      }
      return runOn(server, 'select 1').then(
        () => true,
        () => false,
      );
    },
    (answers) => answers,
    20_000,
  );
}
