import { Agent, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { type Balancer, balancers, freePorts } from '../../setup/deploy/balancers.ts';
import { serviceEnvironment } from '../../setup/deploy/files.ts';
import { isInstalled, runTool } from '../../setup/deploy/tools.ts';
import { rounds } from '../../setup/depth.ts';
import { tally } from '../../setup/node/nodes.ts';
import { type Program, startProgram, waitUntil, waitUntilReady } from '../../setup/node/program.ts';
import { createTestDatabase } from '../../setup/server/database.ts';

const ADMIN_TOKEN = 'admin-token-of-the-balancer-test';
const asAdmin = { 'x-loom-admin-token': ADMIN_TOKEN };

const CLIENTS = 8;

/** Does not fit into the buffers that a proxy fills before it connects to a node. */
const largeText = 'x'.repeat(100_000);

const allMethods = ['GET', 'PUT', 'PATCH', 'backup'] as const;
type Method = (typeof allMethods)[number];

interface Load {
  name: string;
  outcomes: string[];
  stop(): Promise<void>;
}

/** Sends requests over kept connections, one after another on each, until it is stopped. */
function startLoad({ name, url }: Balancer, methods: readonly Method[] = allMethods): Load {
  const outcomes: string[] = [];
  let stopped = false;
  const clients = Array.from({ length: CLIENTS }, async (_, client) => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    for (let sent = client; !stopped; sent += 1) {
      const method = methods[sent % methods.length] ?? 'GET';
      outcomes.push(`${method} ${await send(url, method, client, agent)}`);
      await sleep(rounds({ quick: 25, full: 10 }));
    }
    agent.destroy();
  });
  return {
    name,
    outcomes,
    stop: async () => {
      stopped = true;
      await Promise.all(clients);
    },
  };
}

/** Resolves with `ok`, the status of a failure, or the code of a broken connection. */
function send(url: string, method: Method, client: number, agent: Agent): Promise<string> {
  return new Promise((resolve) => {
    const isRead = method === 'GET' || method === 'backup';
    const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
    const path = method === 'backup' ? 'admin/persistence/backup?audit_limit=1' : `documents/clients%2F${client}`;
    const headers = isRead ? asAdmin : { ...asAdmin, 'content-type': type };
    const asked = request(`${url}/v1/${path}`, { method: isRead ? 'GET' : method, agent, headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => void chunks.push(chunk));
      response.on('error', (error) => resolve(error.message));
      response.on('end', () => {
        const { statusCode = 0 } = response;
        resolve(statusCode < 300 ? 'ok' : `${statusCode} ${Buffer.concat(chunks).toString('utf8').slice(0, 200)}`);
      });
    });
    asked.on('error', (error) => resolve(error.message));
    asked.end(isRead ? undefined : JSON.stringify({ a: client === 0 ? largeText : 1 }));
  });
}

/** Restarts two nodes in turn behind all installed balancers, as an orchestrator does, and counts what clients see. */
async function checkRestarts(starts: ((nodes: number[]) => Promise<Balancer>)[]): Promise<void> {
  const database = await createTestDatabase();
  onTestFinished(() => database.drop());
  const ports = await freePorts(2);
  const nodes: (Program | undefined)[] = [];
  onTestFinished(async () => void (await Promise.all(nodes.map((node) => node?.kill()))));
  const startNode = async (index: number): Promise<void> => {
    const { LOOM_PG_URL_FILE, LOOM_ADMIN_TOKEN_FILE, LOOM_METRICS_TOKEN_FILE, ...settings } = serviceEnvironment(
      ports[index] ?? 0,
    );
    nodes[index] = await startProgram({
      env: { ...settings, LOOM_PG_URL: database.url, LOOM_ADMIN_TOKEN: ADMIN_TOKEN },
    });
    await waitUntilReady(nodes[index].url);
  };
  await Promise.all([startNode(0), startNode(1)]);
  const started = await Promise.all(starts.map((start) => start(ports)));
  const agent = new Agent();
  for (let client = 0; client < CLIENTS; client += 1)
    await waitUntil(
      () => send(started[0]?.url ?? '', 'PUT', client, agent),
      (outcome) => outcome === 'ok',
    );

  const loads = started.map((balancer) => startLoad(balancer));
  const restarts = rounds({ quick: 1, full: 20 });
  for (let round = 0; round < restarts; round += 1) {
    const index = round % 2;
    await sleep(500);
    expect(await nodes[index]?.stop()).toBe(0);
    await startNode(index);
    // The next restart must wait for the balancers.
    if (round + 1 < restarts) await Promise.all(started.map((balancer) => balancer.seesBoth()));
    else await sleep(500);
  }
  await Promise.all(loads.map((load) => load.stop()));
  for (const { name, outcomes } of loads) {
    expect([name, ...Object.keys(tally(outcomes)).sort()]).toEqual([
      name,
      ...allMethods.map((method) => `${method} ok`).sort(),
    ]);
    expect(outcomes.length).toBeGreaterThan(100);
    console.info(`${restarts} restarts behind ${name}: ${outcomes.length} requests, none failed`);
  }
  const nginx = started.find(({ name }) => name === 'nginx');
  if (nginx !== undefined) await checkKill(nginx, nodes[0]);
}

/** Kills a node under load. nginx sends the changes in flight to the other node, with a key that makes each once. */
async function checkKill(nginx: Balancer, node: Program | undefined): Promise<void> {
  const before = await countEntries(nginx);
  const load = startLoad(nginx, ['PUT', 'PATCH']);
  await sleep(300);
  await node?.kill();
  await sleep(300);
  await load.stop();
  expect(Object.keys(tally(load.outcomes)).sort()).toEqual(['PATCH ok', 'PUT ok']);
  expect((await countEntries(nginx)) - before).toBe(load.outcomes.length);
}

async function countEntries({ url }: Balancer): Promise<number> {
  const answer = await fetch(`${url}/v1/audit?order=desc&limit=1`, { headers: asAdmin });
  const page = (await answer.json()) as { entries: { seq: number }[] };
  return page.entries[0]?.seq ?? 0;
}

const names = Object.keys(balancers);
const installed = Object.entries(balancers).filter(([name]) => isInstalled(name));
const missing = names.filter((name) => !isInstalled(name));
const reason =
  missing.length === 0 ? 'both are installed' : `${missing.join(' and ')} not installed: only its absence is shown`;

test(
  `a rolling restart behind ${names.join(' and behind ')} fails no request (${reason})`,
  async () => {
    for (const name of missing) expect(() => runTool(name, ['-v'])).toThrow('ENOENT');
    if (installed.length > 0) await checkRestarts(installed.map(([, start]) => start));
  },
  rounds({ quick: 120_000, full: 1_200_000 }),
);
