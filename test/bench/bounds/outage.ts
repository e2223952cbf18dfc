import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildProgram } from '../../setup/node/built.ts';
import { type Program, startProgram, waitUntilReady } from '../../setup/node/program.ts';
import { type PrivateServer, startPrivateServer } from '../../setup/server/private-server.ts';
import { startProxy } from '../../setup/server/proxy.ts';
import { quantile, showTable, timed } from '../figures.ts';
import { ask, commit } from '../meanwhile.ts';
import { execute, TOKEN, withBenchServer } from '../server.ts';

const READERS = 50;
const BACKUPS = 64;
const LARGE_DOCUMENTS = 6;
const LARGE_BYTES = 4_500_000;
const REQUESTS = 200;
const CLIENTS = 10;

/**
 * Measures commits and reads of other clients while readers of the whole state stand still. The bound is 1 s at p99.
 */
export async function benchmarkFairness(): Promise<void> {
  await withBenchServer(async (server) => {
    const node = await server.startNode(await server.createDatabase('bench_fairness'));
    const stuck: Socket[] = [];
    try {
      for (let index = 0; index < LARGE_DOCUMENTS; index += 1) {
        const body = JSON.stringify(randomBytes(LARGE_BYTES).toString('base64'));
        const headers = { 'x-loom-admin-token': TOKEN, 'content-type': 'application/json' };
        await ask(`${node.url}/v1/documents/large-${index}`, { method: 'PUT', headers, body });
      }
      const rows = [['', 'p50 ms', 'p99 ms', 'max ms'], showLatencies('no other load', await serveOthers(node.url))];
      for (let index = 0; index < READERS; index += 1) stuck.push(await standStill(node.url));
      await sleep(1_000);
      rows.push(showLatencies(`${READERS} readers stand still`, await serveOthers(node.url)));
      for (const socket of stuck.splice(0)) socket.destroy();
      const backups = Array.from({ length: BACKUPS }, () => takeBackup(node.url));
      rows.push(showLatencies(`${BACKUPS} backups at once`, await serveOthers(node.url)));
      const taken = (await Promise.all(backups)).filter(Boolean).length;
      process.stdout.write(`${showTable(rows)}${taken} of ${BACKUPS} backups were taken, the others were refused\n`);
    } finally {
      for (const socket of stuck) socket.destroy();
      await node.stop();
    }
  });
}

async function standStill(url: string): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.write(`GET /v1/state HTTP/1.1\r\nhost: x\r\nx-loom-admin-token: ${TOKEN}\r\n\r\n`);
  return socket;
}

/** Takes a backup without keeping it. Returns false if the node refuses it. */
async function takeBackup(url: string): Promise<boolean> {
  const answer = await fetch(`${url}/v1/admin/persistence/backup`, { headers: { 'x-loom-admin-token': TOKEN } });
  for await (const chunk of answer.body ?? []) if (chunk.length === 0) break;
  return answer.ok;
}

/** Returns the sorted latencies of commits and reads, in seconds. */
async function serveOthers(url: string): Promise<number[]> {
  const latencies: number[] = [];
  const client = async (name: string): Promise<void> => {
    for (let round = 0; round < REQUESTS / CLIENTS / 2; round += 1) {
      latencies.push(await commit(url, name));
      const headers = { 'x-loom-admin-token': TOKEN };
      latencies.push((await timed(() => ask(`${url}/v1/documents?limit=10`, { headers }))).seconds);
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, (_, index) => client(`small-${index}`)));
  return latencies.toSorted((one, other) => one - other);
}

function showLatencies(label: string, seconds: number[]): string[] {
  return [label, ...[0.5, 0.99, 1].map((share) => (quantile(seconds, share) * 1000).toFixed(0))];
}

/** Measures the time from a fault to the next commit: a frozen primary, a killed one, and a silent connection. */
export async function benchmarkFailover(): Promise<void> {
  const built = await buildProgram();
  try {
    const rows = [['fault', 'next commit after s']];
    const measure = async (label: string, run: (entry: string) => Promise<number>): Promise<void> => {
      rows.push([label, (await run(built.entry)).toFixed(2)]);
    };
    await measure('the primary freezes, and the standby is promoted 1 s later', (entry) => failOver(entry, 'freeze'));
    await measure('the primary is killed, and the standby is promoted 1 s later', (entry) => failOver(entry, 'kill'));
    for (const seconds of [1, 5]) {
      const label = `the primary freezes, and its address moves to the standby ${seconds} s later`;
      await measure(label, (entry) => failOver(entry, 'freeze', seconds));
    }
    await measure('open connections go silent', loseConnections);
    process.stdout.write(showTable(rows));
  } finally {
    await built.remove();
  }
}

/** Two independent servers stand for a primary and its standby. */
async function failOver(entry: string, fault: 'freeze' | 'kill', moveSeconds?: number): Promise<number> {
  const startServer = () => startPrivateServer({ ownIdentifier: true });
  const [primary, standby] = await Promise.all([startServer(), startServer()]);
  const proxy = moveSeconds === undefined ? undefined : await startProxy(urlOf(primary));
  try {
    for (const server of [primary, standby]) {
      await execute(server.url, `create role loom superuser login password 'loom'`);
      // The node creates its schema, and the state's row, on each.
      const node = await start(entry, urlOf(server));
      await node.stop();
    }
    const promote = (isReadOnly: boolean): Promise<void> =>
      execute(
        standby.url,
        `begin read write; alter database postgres set default_transaction_read_only = ${isReadOnly}; commit`,
      );
    await promote(true);
    const node = await start(entry, proxy?.url ?? urlOf(primary, standby));
    try {
      await commit(node.url);
      await primary[fault]();
      const move = async (): Promise<void> => {
        await promote(false);
        proxy?.moveTo(urlOf(standby));
      };
      setTimeout(() => void move(), (moveSeconds ?? 1) * 1_000);
      return await nextCommit(node.url);
    } finally {
      if (fault === 'freeze') await primary.thaw();
      await node.stop();
    }
  } finally {
    await proxy?.close();
    await Promise.all([primary.stop(), standby.stop()]);
  }
}

async function loseConnections(entry: string): Promise<number> {
  const server = await startPrivateServer({ ownIdentifier: true });
  const proxy = await startProxy(server.url);
  const node = await start(entry, proxy.url);
  try {
    await commit(node.url);
    proxy.silence();
    return await nextCommit(node.url);
  } finally {
    await node.stop();
    await proxy.close();
    await server.stop();
  }
}

function urlOf(...servers: PrivateServer[]): string {
  return `postgres://loom:loom@${servers.map(({ port }) => `127.0.0.1:${port}`).join()}/postgres`;
}

async function start(entry: string, databaseUrl: string): Promise<Program> {
  const env = { LOOM_PG_URL: databaseUrl, LOOM_ADMIN_TOKEN: TOKEN, LOOM_LOG_LEVEL: 'info' };
  const node = await startProgram({ env, entry });
  await waitUntilReady(node.url);
  return node;
}

/** Commits until one succeeds, and returns the seconds until then. */
async function nextCommit(url: string): Promise<number> {
  const started = performance.now();
  for (;;) {
    try {
      await commit(url);
      return (performance.now() - started) / 1000;
    } catch {
      await sleep(100);
    }
  }
}
