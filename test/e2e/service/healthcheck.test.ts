import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { afterEach, expect, inject, it } from 'vitest';
import { loadCommand } from '../../../src/cli/loaders.ts';
import { importsOf } from '../../contract/rules/house-rules.ts';
import { runCommandLine } from '../../setup/node/program.ts';

const tiny = join(dirname(inject('builtEntry')), 'healthcheck.js');
const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

/** Starts a server that answers `/live` with this status; undefined means no answer at all. Resolves with its port. */
async function listen(host: string, status: number | undefined): Promise<number> {
  const server: Server = createServer((asked, answer) => {
    if (status !== undefined) answer.writeHead(asked.url === '/live' ? status : 404).end('{}');
  });
  server.listen(0, host);
  await once(server, 'listening');
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  return typeof address === 'object' ? (address?.port ?? 0) : 0;
}

const check = (env: Record<string, string>) =>
  runCommandLine(`node ${tiny}`, { directory: dirname(tiny), env: { ...env } });

it.each([
  ['127.0.0.1', '127.0.0.1'],
  ['127.0.0.1', '0.0.0.0'],
  ['127.0.0.1', ''],
  ['::1', '::'],
  ['::1', '[::1]'],
  ['::1', '::1'],
])('a node on %s is alive with LOOM_HOST=%s', async (host, variable) => {
  const port = await listen(host, 200);
  expect(await check({ LOOM_HOST: variable, LOOM_PORT: String(port) })).toEqual({
    code: 0,
    stdout: 'live\n',
    stderr: '',
  });
});

it.each<[string, number | undefined, string]>([
  ['another status', 503, 'not live: status 503\n'],
  ['no answer', undefined, 'not live: no answer within 3000 ms\n'],
])('%s is not alive', async (_what, status, stdout) => {
  const port = await listen('127.0.0.1', status);
  expect(await check({ LOOM_PORT: String(port) })).toEqual({ code: 1, stdout, stderr: '' });
});

it('a port without a node is not alive, and neither is a program that does not speak HTTP', async () => {
  const server = createTcpServer((socket) =>
    socket.on('error', () => undefined).end('SSH-2.0\r\n', () => socket.destroy()),
  ).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
  expect(await check({ LOOM_PORT: String(port) })).toMatchObject({
    code: 1,
    stdout: expect.stringMatching(/^not live: /),
  });
  await new Promise((resolve) => server.close(resolve));
  expect(await check({ LOOM_PORT: String(port) })).toMatchObject({
    code: 1,
    stdout: expect.stringContaining('ECONNREFUSED'),
  });
  // The port of a Service of Kubernetes is not the node's: the default port counts.
  const service = await check({ LOOM_HOST: '127.0.0.2', LOOM_PORT: 'tcp://10.0.0.1:99' });
  expect(service.stdout).toContain('127.0.0.2:8787');
});

it('the health check of the image loads its own two files and nothing else', async () => {
  const source = (path: string): Promise<string> => readFile(new URL(`../../../src/${path}`, import.meta.url), 'utf8');
  expect(importsOf(await source('healthcheck.ts')).toSorted()).toEqual(['./cli/client/live.ts', 'node:process']);
  expect(importsOf(await source('cli/client/live.ts'))).toEqual(['node:http']);
});

it('a command loads its own modules, and not those of the others', async () => {
  const source = await readFile(new URL('../../../src/cli/program.ts', import.meta.url), 'utf8');
  expect(importsOf(source)).not.toContain('./serve.ts');
  // Only the list of all commands loads all of them, and only when the help shows it.
  expect(source.match(/^import .*commands\.ts/m)).toBeNull();
  const list = await readFile(new URL('../../../src/cli/commands.ts', import.meta.url), 'utf8');
  const names = importsOf(list).filter((path) => !/command\.ts$|loaders\.ts$/.test(path));
  for (const path of names) {
    const name = basename(path, '.ts');
    expect(await loadCommand(name), name).toMatchObject({ name });
  }
  expect(names).toHaveLength(12);
  for (const name of ['toString', '__proto__', 'nonsense']) expect(await loadCommand(name)).toBeUndefined();
});
