import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { rounds } from '../../setup/depth.ts';
import { tally } from '../../setup/node/nodes.ts';
import { type Program, portOrAnother, startProgram, waitUntil, waitUntilReady } from '../../setup/node/program.ts';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';

const ADMIN_TOKEN = 'admin-token-of-the-balancer-test';
const asAdmin = { 'x-loom-admin-token': ADMIN_TOKEN, 'content-type': 'application/json' };

const page = readFileSync(fileURLToPath(new URL('../../../docs/load-balancers.md', import.meta.url)), 'utf8');

function blockOf(language: string): string {
  const block = new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``).exec(page)?.[1];
  if (block === undefined) throw new Error(`the page has no block of ${language}`);
  return block;
}

function numberIn(text: string, pattern: RegExp): number {
  return Number(pattern.exec(text)?.[1]);
}

describe('the figures of docs/load-balancers.md fit together:', () => {
  const variables = blockOf('sh');
  const delayMs = numberIn(variables, /DELAY_MS=(\d+)/);
  const timeoutMs = numberIn(variables, /TIMEOUT_MS=(\d+)/);

  test('HAProxy stops sending before the delay is over', () => {
    const config = blockOf('haproxy');
    const [, interval, fall] = /inter (\d+)s fall (\d+)/.exec(config) ?? [];
    const checkMs = (Number(interval) * Number(fall) + numberIn(config, /timeout check (\d+)s/)) * 1_000;
    expect(checkMs).toBeLessThan(delayMs);
    expect(numberIn(config, /pool-purge-delay (\d+)s/) * 1_000).toBeLessThan(delayMs);
    expect(config).toContain('option httpchk GET /ready');
  });

  test('nginx closes idle connections before the delay is over', () => {
    expect(numberIn(blockOf('nginx'), /keepalive_timeout (\d+)s/) * 1_000).toBeLessThan(delayMs);
  });

  test('Kubernetes kills a node only after it has ended by itself', () => {
    const config = blockOf('yaml');
    const graceMs = numberIn(config, /terminationGracePeriodSeconds: (\d+)/) * 1_000;
    expect(graceMs).toBeGreaterThan(delayMs + timeoutMs + 1_000);
    expect(numberIn(config, /DELAY_MS, value: '(\d+)'/)).toBe(delayMs);
    expect(numberIn(config, /TIMEOUT_MS, value: '(\d+)'/)).toBe(timeoutMs);
    expect(numberIn(config, /path: \/ready[^\n]*\n +periodSeconds: (\d+)/) * 1_000).toBeLessThan(delayMs);
  });
});

const cleanUps: (() => unknown)[] = [];
let database: TestDatabase | undefined;

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
  await database?.drop();
  database = undefined;
});

async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) ports.add(await portOrAnother(0));
  return [...ports];
}

interface Balancer {
  url: string;
  /** Resolves when the balancer has seen that both nodes are ready. */
  seesBoth(): Promise<void>;
}

function writeConfig(text: string): { directory: string; path: string } {
  const directory = mkdtempSync(join(tmpdir(), 'loom-balancer-'));
  cleanUps.push(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'config');
  writeFileSync(path, text);
  return { directory, path };
}

/** Starts a balancer, and ends it after the test. Its last words are in the error of a test that waits for it. */
async function run(command: string, args: string[]): Promise<ChildProcess> {
  const child = spawn(command, args, { stdio: 'ignore' });
  cleanUps.push(async () => {
    if (child.exitCode !== null) return;
    child.kill('SIGTERM');
    await once(child, 'exit');
  });
  await once(child, 'spawn');
  return child;
}

async function startHaproxy(nodes: number[]): Promise<Balancer> {
  const [port = 0, statistics = 0] = await freePorts(2);
  const { path } = writeConfig(
    blockOf('haproxy')
      .replace(':8080', `:${port}`)
      .replace(':8404', `:${statistics}`)
      .replace(':8787', `:${nodes[0]}`)
      .replace(':8788', `:${nodes[1]}`),
  );
  execFileSync('haproxy', ['-c', '-f', path], { stdio: 'ignore' });
  await run('haproxy', ['-db', '-f', path]);
  const seesBoth = async (): Promise<void> => {
    await waitUntil(
      () =>
        fetch(`http://127.0.0.1:${statistics}/;csv`)
          .then((answer) => answer.text())
          .catch(() => ''),
      (csv) => ['a', 'b'].every((node) => new RegExp(`^nodes,node-${node},(?:[^,]*,){15}UP,`, 'm').test(csv)),
    );
  };
  return { url: `http://127.0.0.1:${port}`, seesBoth };
}

async function startNginx(nodes: number[]): Promise<Balancer> {
  const [port = 0] = await freePorts(1);
  const { directory, path } = writeConfig(
    `pid ${join(tmpdir(), `loom-nginx-${port}.pid`)};\n${blockOf('nginx')}`
      .replace(':8081', `:${port}`)
      .replace(':8787', `:${nodes[0]}`)
      .replace(':8788', `:${nodes[1]}`)
      .replace('http {\n', 'http {\n  access_log off;\n'),
  );
  const common = ['-p', directory, '-c', path, '-e', join(directory, 'error.log')];
  execFileSync('nginx', ['-t', ...common], { stdio: 'ignore' });
  await run('nginx', [...common, '-g', 'daemon off;']);
  // nginx has no checks. It tries a node again when its `fail_timeout` is over.
  return { url: `http://127.0.0.1:${port}`, seesBoth: () => sleep(3_000) };
}

const balancers = [
  { name: 'haproxy', start: startHaproxy, methods: ['GET', 'PUT', 'PATCH'] },
  { name: 'nginx', start: startNginx, methods: ['GET', 'PUT'] },
].filter(({ name }) => spawnSync(name, ['-v']).status === 0);

const CLIENTS = 8;

interface Load {
  outcomes: string[];
  stop(): Promise<void>;
}

/** Sends requests over kept connections, one after another on each, until it is stopped. */
function startLoad(url: string, methods: string[]): Load {
  const outcomes: string[] = [];
  let stopped = false;
  const clients = Array.from({ length: CLIENTS }, async (_, client) => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    for (let sent = 0; !stopped; sent += 1) {
      const method = methods[sent % methods.length] ?? 'GET';
      outcomes.push(`${method} ${await send(url, method, client, agent)}`);
      await sleep(10);
    }
    agent.destroy();
  });
  return {
    outcomes,
    stop: async () => {
      stopped = true;
      await Promise.all(clients);
    },
  };
}

/** Resolves with `ok`, the status of a failure, or the code of a broken connection. */
function send(url: string, method: string, client: number, agent: Agent): Promise<string> {
  return new Promise((resolve) => {
    const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
    const headers = { ...asAdmin, 'content-type': type };
    const asked = request(`${url}/v1/documents/client-${client}`, { method, agent, headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => void chunks.push(chunk));
      response.on('error', (error) => resolve(error.message));
      response.on('end', () => {
        const { statusCode = 0 } = response;
        resolve(statusCode < 300 ? 'ok' : `${statusCode} ${Buffer.concat(chunks).toString('utf8').slice(0, 200)}`);
      });
    });
    asked.on('error', (error) => resolve(error.message));
    asked.end(method === 'GET' ? undefined : '{"a":1}');
  });
}

const installed = balancers.length > 0 ? [{ names: balancers.map(({ name }) => name).join(' and ') }] : [];

test.each(installed)(
  'a rolling restart behind $names, where it is installed, fails no request',
  async () => {
    database = await createTestDatabase();
    const ports = await freePorts(2);
    const settings = Object.fromEntries(
      [...blockOf('sh').matchAll(/^(\w+)=(.*)$/gm)].map(([, name, value]) => [name, value]),
    );
    const env = { ...settings, LOOM_PG_URL: database.url, LOOM_ADMIN_TOKEN: ADMIN_TOKEN };
    const nodes: (Program | undefined)[] = [];
    cleanUps.push(() => Promise.all(nodes.map((node) => node?.kill())));
    const startNode = async (index: number): Promise<void> => {
      nodes[index] = await startProgram({ env: { ...env, LOOM_PORT: String(ports[index]) } });
      await waitUntilReady(nodes[index].url);
    };
    await startNode(0);
    await startNode(1);
    const started = await Promise.all(
      balancers.map(async ({ start, ...one }) => ({ ...one, ...(await start(ports)) })),
    );
    const agent = new Agent();
    for (let client = 0; client < CLIENTS; client += 1)
      await waitUntil(
        () => send(started[0]?.url ?? '', 'PUT', client, agent),
        (outcome) => outcome === 'ok',
      );

    const loads = started.map(({ name, url, methods }) => ({ name, methods, ...startLoad(url, methods) }));
    const restarts = rounds({ quick: 1, full: 2 });
    for (let index = 0; index < restarts; index += 1) {
      await sleep(500);
      expect(await nodes[index]?.stop()).toBe(0);
      await startNode(index);
      // The next restart must wait for the balancers.
      if (index + 1 < restarts) await Promise.all(started.map((balancer) => balancer.seesBoth()));
      else await sleep(500);
    }
    await Promise.all(loads.map((load) => load.stop()));
    for (const { name, methods, outcomes } of loads) {
      const counts = tally(outcomes);
      expect([name, ...Object.keys(counts).sort()]).toEqual([name, ...methods.map((method) => `${method} ok`).sort()]);
      expect(outcomes.length).toBeGreaterThan(100);
      console.info(`a rolling restart behind ${name}: ${outcomes.length} requests, none failed`);
    }
  },
  120_000,
);
