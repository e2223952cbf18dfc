import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { afterEach, beforeEach, expect, inject, test } from 'vitest';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/dev/postgres.ts';
import { isRoot, startOfProcess, waitForEnd } from '../../src/dev/processes.ts';
import { copyCluster } from '../setup/server/blank-cluster.ts';
import { childrenOf } from '../setup/server/processes.ts';

let scratch: string;
let dataDirectory: string;
let started: EmbeddedPostgres[];
beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'loom-test-dev-'));
  // The mode of /tmp.
  await chmod(scratch, 0o1777);
  dataDirectory = join(scratch, 'data');
  started = [];
});
/** Puts a cluster there, for tests that need none of their own: `initdb` takes most of the CPU time of a start. */
async function copyBlankCluster(to = dataDirectory): Promise<void> {
  const blank = inject('blankCluster');
  if (blank === undefined) return;
  await mkdir(to);
  await copyCluster(blank, to);
}

afterEach(async () => {
  for (const server of started) await server.stop();
  await rm(scratch, { recursive: true, force: true });
});

test('data and password survive a restart, and the server listens on this machine only', async () => {
  const first = await start({ persistent: true, settings: { work_mem: '5MB' } });
  await ask(first.url, 'create table kept (id int)');
  expect(await ask(first.url, `select current_setting('listen_addresses') as answer`)).toBe('127.0.0.1');
  expect(await ask(first.url, `select current_setting('work_mem') as answer`)).toBe('5MB');
  expect(await ask(first.url, `select current_setting('server_encoding') as answer`)).toBe('UTF8');
  await first.stop();
  const second = await start({ persistent: true });
  expect(new URL(second.url).password).toBe(new URL(first.url).password);
  expect(await ask(second.url, `select to_regclass('kept')::text as answer`)).toBe('kept');
});

test('a wrong password is refused', async () => {
  await copyBlankCluster();
  const server = await start({ persistent: false });
  const url = new URL(server.url);
  url.password = 'guess';
  await expect(ask(url.href, 'select 1')).rejects.toThrow('password authentication failed');
});

test('stop removes data that is not persistent, and the server can read its own files', async () => {
  await copyBlankCluster();
  const server = await start({ persistent: false, files: { 'extra.conf': `work_mem = '7MB'` }, settings: {} });
  expect(await ask(server.url, `select pg_read_file('extra.conf') as answer`)).toBe(`work_mem = '7MB'`);
  await server.stop();
  expect(existsSync(server.dataDirectory)).toBe(false);
});

test('a second server on the same data is refused, with the pid of the first owner', async () => {
  await copyBlankCluster();
  await start({ persistent: true });
  await expect(start({ persistent: true })).rejects.toThrow(`in use by process ${process.pid}`);
});

test('a port in use is a clear error and does not block the next start', async () => {
  for (const name of ['data', 'other']) await copyBlankCluster(join(scratch, name));
  const other = await startEmbeddedPostgres({ dataDirectory: join(scratch, 'other'), persistent: false });
  started.push(other);
  await expect(start({ persistent: true, port: other.port })).rejects.toThrow(`Port ${other.port} is in use`);
  await start({ persistent: true });
});

test('a server that does not start is an error with the end of its log', async () => {
  await copyBlankCluster();
  await expect(start({ persistent: false, settings: { work_mem: 'plenty' } })).rejects.toThrow(
    'invalid value for parameter "work_mem"',
  );
  expect(existsSync(dataDirectory)).toBe(false);
});

test('a server ends when its starter is killed, and data that is not persistent is removed', async () => {
  await copyBlankCluster();
  const { child, pid } = await startInOtherProcess('false');
  child.kill('SIGKILL');
  expect(await waitForEnd(pid, 20_000)).toBe(true);
  await expect.poll(() => existsSync(dataDirectory), { timeout: 20_000 }).toBe(false);
});

test('the next start ends a server whose starter and guard were killed, and uses its data', async () => {
  await copyBlankCluster();
  const { child, pid, url } = await startInOtherProcess('true');
  await ask(url, 'create table kept (id int)');
  const guards = (await childrenOf(child.pid ?? 0)).filter((one) => one !== pid);
  for (const guard of guards) process.kill(-guard, 'SIGKILL');
  child.kill('SIGKILL');
  await waitForEnd(child.pid ?? 0, 10_000);
  expect(await startOfProcess(pid)).toBeDefined();
  const next = await start({ persistent: true });
  expect(await startOfProcess(pid)).toBeUndefined();
  expect(await ask(next.url, `select to_regclass('kept')::text as answer`)).toBe('kept');
});

test('stale marks that name other running processes do not block a start or end those processes', async () => {
  await copyBlankCluster();
  const first = await start({ persistent: true });
  const cluster = join(first.dataDirectory, 'cluster');
  await first.stop();
  const bystander = spawn('sleep', ['60']);
  try {
    await writeFile(join(cluster, 'postmaster.pid'), `${bystander.pid}\n${cluster}\n`);
    await writeFile(join(first.dataDirectory, 'owner'), `${bystander.pid} 12345`);
    await start({ persistent: true });
    expect(await startOfProcess(bystander.pid ?? 0)).toBeDefined();
  } finally {
    bystander.kill();
  }
});

test('if the server cannot enter the directory, its data is kept elsewhere', async () => {
  const closed = join(scratch, 'closed');
  await mkdir(closed, { mode: 0o700 });
  dataDirectory = join(closed, 'data');
  const server = await start({ persistent: false });
  expect(await ask(server.url, 'select 1 as answer')).toBe(1);
  // Only root runs the server as another user, who cannot enter the directory.
  expect(server.dataDirectory === dataDirectory).toBe(!isRoot());
  expect(await readdir(closed)).toEqual(isRoot() ? [] : ['data']);
  await server.stop();
  expect(existsSync(server.dataDirectory)).toBe(false);
});

async function start(options: Partial<Parameters<typeof startEmbeddedPostgres>[0]>): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({
    dataDirectory,
    persistent: false,
    ...options,
    settings: { fsync: 'off', ...options.settings },
  });
  started.push(server);
  return server;
}

async function startInOtherProcess(persistent: string): Promise<{ child: ChildProcess; pid: number; url: string }> {
  const script = fileURLToPath(new URL('./starter.ts', import.meta.url));
  const child = spawn(process.execPath, ['--import', 'tsx', script, dataDirectory, persistent], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  for await (const line of createInterface({ input: child.stdout })) return { child, ...JSON.parse(line) };
  throw new Error('The starter ended without a server');
}

async function ask(url: string, text: string): Promise<unknown> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(text)).rows[0]?.answer;
  } finally {
    await client.end();
  }
}
