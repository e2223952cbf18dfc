import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sendSignal } from '../../src/dev/processes.ts';
import { type Balancer, balancers, freePorts } from '../setup/deploy/balancers.ts';
import { isInstalled } from '../setup/deploy/tools.ts';
import { ADMIN_TOKEN } from '../setup/node/http.ts';
import { type Program, startProgram, waitUntilReady } from '../setup/node/program.ts';
import { hasPooler, type Pooler, startPooler } from '../setup/server/pooler.ts';
import { type PrivateServer, STANDBY_NAME, startPrivateServer } from '../setup/server/private-server.ts';
import { startProxy, type TestProxy } from '../setup/server/proxy.ts';
import type { History } from './history.ts';
import type { Plan, Tools } from './plan.ts';
import { mountSmallDisk, type SmallDisk } from './small-disk.ts';

/** A node in a process of its own. Its port stays the same. */
export interface SiteNode {
  name: string;
  url: string;
  /** When the harness froze or ended it, and when it ran again; `to` is infinite meanwhile. */
  away: { from: number; to: number }[];
  freeze(): void;
  thaw(): void;
  kill(): Promise<void>;
  /** Sends SIGTERM, and resolves when the process has ended. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Returns its log lines of the levels warn and error, without those of requests. */
  warnings(): string[];
  setClock(offset: string): Promise<void>;
}

/** All processes of a round: servers, the TCP proxies in front of them, and the nodes. */
export interface Site {
  plan: Plan;
  nodes: SiteNode[];
  balancer: Balancer | undefined;
  primary: PrivateServer;
  standby: PrivateServer | undefined;
  /** The line from the nodes, or from PgBouncer, to the primary; and the one from the standby to the primary. */
  line: TestProxy;
  replication: TestProxy | undefined;
  pooler: Pooler | undefined;
  disk: SmallDisk | undefined;
  close(): Promise<void>;
}

/** Undone in reverse order. */
type Cleanup = (closing: () => unknown) => void;

const SMALL_DISK_MIB = 160;
const FAKETIME = ['x86_64', 'aarch64']
  .map((one) => `/usr/lib/${one}-linux-gnu/faketime/libfaketime.so.1`)
  .find(existsSync);

/** Finds the tools, and the reason for each that is missing. */
export function findTools(): { tools: Tools; missing: string[] } {
  const disk = mountSmallDisk(1);
  if (typeof disk !== 'string') disk.remove();
  const tools = {
    pgbouncer: hasPooler,
    haproxy: isInstalled('haproxy'),
    faketime: FAKETIME !== undefined,
    smallDisk: typeof disk !== 'string',
  };
  const missing = [
    ...(tools.pgbouncer ? [] : ['PgBouncer is not installed: no fault of a pooler']),
    ...(tools.haproxy ? [] : ['HAProxy is not installed: no fault of a balancer']),
    ...(tools.faketime ? [] : ['libfaketime is not installed: no jump of a clock']),
    ...(typeof disk === 'string' ? [`no full disk: ${disk}`] : []),
  ];
  return { tools, missing };
}

/** Starts the processes of a plan. Resolves when every node is ready. */
export async function openSite(plan: Plan, history: History): Promise<Site> {
  const closings: (() => unknown)[] = [];
  const onClose: Cleanup = (closing) => void closings.push(closing);
  const close = async (): Promise<void> => {
    for (const closing of closings.splice(0).reverse()) await closing();
  };
  try {
    const database = await openDatabase(plan, onClose);
    const nodes = await startNodes(plan, database.url, history, onClose);
    const ports = nodes.map(({ url }) => Number(new URL(url).port));
    const balancer = plan.balanced ? await balancers.haproxy(ports) : undefined;
    return { plan, nodes, balancer, ...database, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function openDatabase({ topology, seed }: Plan, onClose: Cleanup) {
  const isReplicated = topology === 'synchronous' || topology === 'asynchronous';
  const disk = topology === 'small-disk' ? mountSmallDisk(SMALL_DISK_MIB) : undefined;
  if (typeof disk === 'string') throw new Error(disk);
  if (disk !== undefined) onClose(disk.remove);
  const primary = await startPrivateServer({
    settings: {
      ...(topology === 'synchronous' ? { synchronous_standby_names: STANDBY_NAME } : {}),
      ...(isReplicated ? { wal_keep_size: '256MB' } : {}),
      ...(disk === undefined ? {} : { max_wal_size: '32MB', min_wal_size: '32MB' }),
    },
    ...(disk === undefined ? {} : { parent: disk.directory }),
  });
  onClose(primary.stop);
  const line = await openLine(primary.url, onClose);
  const replication = isReplicated ? await openLine(primary.url, onClose) : undefined;
  const standby = replication === undefined ? undefined : await startPrivateServer({ standbyOf: replication.url });
  if (standby !== undefined) onClose(standby.stop);
  // A node makes up to 10 connections, and a pooler lets them share a few.
  const pooler = topology === 'pooled' ? await startPooler(line.url, 4 + (seed % 8)) : undefined;
  if (pooler !== undefined) onClose(pooler.stop);
  const second = standby === undefined ? undefined : await openLine(standby.url, onClose);
  const url = second === undefined ? (pooler?.url ?? line.url) : withHosts(line.url, second.url);
  return { primary, standby, line, replication, pooler, disk, url };
}

async function openLine(url: string, onClose: Cleanup): Promise<TestProxy> {
  const line = await startProxy(url);
  onClose(line.close);
  return line;
}

function withHosts(first: string, second: string): string {
  const { host } = new URL(first);
  return first.replace(host, `${host},${new URL(second).host}`);
}

async function startNodes(plan: Plan, databaseUrl: string, history: History, onClose: Cleanup): Promise<SiteNode[]> {
  const ports = await freePorts(plan.nodes);
  const hasClock = plan.steps.flat().some(({ kind }) => kind === 'node-clock');
  const nodes: SiteNode[] = [];
  for (const [index, port] of ports.entries()) {
    const clock = hasClock ? await createClock(onClose) : undefined;
    const env = {
      LOOM_PG_URL: databaseUrl,
      LOOM_ADMIN_TOKEN: ADMIN_TOKEN,
      LOOM_PORT: String(port),
      LOOM_SHUTDOWN_TIMEOUT_MS: '3000',
      // PgBouncer has few connections to the server.
      ...(plan.topology === 'pooled' ? { LOOM_PG_POOL_MAX: '3', LOOM_PG_STREAMS_MAX: '1' } : {}),
      ...clock?.env,
    };
    nodes.push(createNode(`node-${index + 1}`, env, clock?.set, history));
  }
  onClose(() => Promise.all(nodes.map((node) => node.kill())));
  await Promise.all(nodes.map((node) => node.start()));
  await Promise.all(nodes.map(({ url }) => waitUntilReady(url)));
  return nodes;
}

function createNode(
  name: string,
  env: Record<string, string>,
  setClock: SiteNode['setClock'] = async () => undefined,
  history: History,
): SiteNode {
  let program: Program | undefined;
  const ended: string[] = [];
  const away: SiteNode['away'] = [];
  const leave = (): void => void away.push({ from: history.now(), to: Number.POSITIVE_INFINITY });
  const comeBack = (): void => {
    const last = away.at(-1);
    if (last !== undefined) last.to = history.now();
  };
  const take = (): Program => {
    if (program === undefined) throw new Error(`${name} does not run`);
    return program;
  };
  const end = async (ending: (running: Program) => Promise<unknown>): Promise<void> => {
    if (program === undefined) return;
    leave();
    await ending(program);
    ended.push(program.output());
    program = undefined;
  };
  return {
    name,
    url: `http://127.0.0.1:${env.LOOM_PORT}`,
    away,
    freeze: () => {
      leave();
      sendSignal(take().pid, 'SIGSTOP');
    },
    thaw: () => {
      sendSignal(take().pid, 'SIGCONT');
      comeBack();
    },
    kill: () => end((running) => running.kill()),
    stop: () => end((running) => running.stop()),
    start: async () => {
      program = await startProgram({ env });
      comeBack();
    },
    warnings: () =>
      [...ended, program?.output() ?? '']
        .join('')
        .split('\n')
        .filter((entry) => /"level":"(?:warn|error|fatal)"/.test(entry) && !entry.includes('"req":')),
    setClock,
  };
}

/** Returns the environment of a process whose clock `set` moves. Its monotonic clock stays. */
async function createClock(onClose: Cleanup) {
  const directory = await mkdtemp(join(tmpdir(), 'loom-test-clock-'));
  onClose(() => rm(directory, { recursive: true }));
  const path = join(directory, 'offset');
  const set = (offset: string): Promise<void> => writeFile(path, offset);
  await set('+0');
  const env = {
    LD_PRELOAD: FAKETIME ?? '',
    FAKETIME_TIMESTAMP_FILE: path,
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
  };
  return { env, set };
}
