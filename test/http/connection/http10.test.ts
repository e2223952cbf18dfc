import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Store } from '../../../src/domain/store.ts';
import {
  asAdmin,
  type BareServer,
  createBareServer,
  createTestServer,
  type TestServer,
  testConfig,
} from '../../setup/node/http.ts';
import { openSocket } from '../../setup/node/raw.ts';

let server: TestServer;
let node: BareServer;
let port: number;
/** The stream that the node is sending. */
let body: PassThrough;
beforeAll(async () => {
  server = await createTestServer();
  await server.request('PUT', '/v1/documents/a', { body: '"text"' });
  const store: Store = {
    ...server.store,
    openState: async () => {
      body = new PassThrough();
      body.write('{"a":');
      return { epoch: 'e', revision: 1, body };
    },
  };
  node = createBareServer(store, testConfig(server.database.url));
  ({ port } = await node.listen());
});
afterAll(async () => {
  await node.close({ timeoutMs: 100 });
  await server.close({ timeoutMs: 100 });
});

/** Requests the state, and returns its text and how the connection ended. `act` runs after the first bytes. */
async function download(version: string, headers: string, act: () => unknown): Promise<{ text: string; end: string }> {
  const socket = await openSocket(port);
  let text = '';
  let acted = false;
  return new Promise((resolve) => {
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      if (!acted && text.includes('{"a":')) act();
      acted ||= text.includes('{"a":');
    });
    socket.on('error', (error: NodeJS.ErrnoException) => resolve({ text, end: error.code ?? 'error' }));
    socket.on('end', () => resolve({ text, end: 'end' }));
    socket.write(
      `GET /v1/state HTTP/${version}\r\nhost: x\r\nx-loom-admin-token: ${asAdmin['x-loom-admin-token']}\r\n${headers}\r\n`,
    );
  });
}

describe('a stream over HTTP/1.0, where only the end of the connection marks the end', () => {
  test.each(['', 'connection: keep-alive\r\n', 'connection: close\r\n'])(
    'ends regularly when it is complete: %j',
    async (headers) => {
      const { text, end } = await download('1.0', headers, () => body.end('1}'));
      expect([text.split('\r\n\r\n')[1], end]).toEqual(['{"a":1}', 'end']);
      expect(text).not.toContain('transfer-encoding');
    },
  );

  test.each(['', 'connection: keep-alive\r\n'])('is reset when the source fails: %j', async (headers) => {
    const { end } = await download('1.0', headers, () => body.destroy(new Error('cut')));
    expect(end).toBe('ECONNRESET');
  });

  test('is reset when the node closes all connections', async () => {
    const { end } = await download('1.0', '', () => node.app.server.closeAllConnections());
    expect(end).toBe('ECONNRESET');
  });
});

test('a stream over HTTP/1.1 that is cut off lacks its last chunk', async () => {
  const whole = await download('1.1', 'connection: close\r\n', () => body.end('1}'));
  expect(whole.text).toMatch(/\r\n0\r\n\r\n$/);
  const cut = await download('1.1', 'connection: close\r\n', () => body.destroy(new Error('cut')));
  expect(cut.text).not.toMatch(/\r\n0\r\n\r\n$/);
});

test('short answers over HTTP/1.0 end regularly, one after another', async () => {
  const socket = await openSocket(port);
  const chunks: Buffer[] = [];
  const ended = new Promise((resolve) => {
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('error', resolve);
    socket.on('end', () => resolve('end'));
  });
  const one = 'GET /live HTTP/1.0\r\nconnection: keep-alive\r\n\r\n';
  socket.write(`${one}${one}GET /live HTTP/1.0\r\n\r\n`);
  expect(await ended).toBe('end');
  expect(Buffer.concat(chunks).toString().split('{"ok":true}')).toHaveLength(4);
});

/**
 * Starts nginx before the node, which it asks with HTTP/1.0 by default. Returns undefined if nginx is not installed.
 */
async function startNginx(target: number): Promise<{ port: number; stop: () => Promise<unknown> } | undefined> {
  const folder = await mkdtemp(join(tmpdir(), 'loom-nginx-'));
  const proxyPort = await freePort();
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${folder}/${name};`,
  );
  const proxy = `server { listen 127.0.0.1:${proxyPort}; location / { proxy_pass http://127.0.0.1:${target}; } }`;
  const http = `http { access_log off; ${paths.join(' ')} ${proxy} }`;
  await writeFile(join(folder, 'nginx.conf'), `daemon off; pid ${folder}/pid; events {} ${http}`);
  const child = spawn('nginx', ['-c', join(folder, 'nginx.conf'), '-e', join(folder, 'errors')], { stdio: 'ignore' });
  const ended = new Promise((resolve) => child.once('error', resolve).once('close', resolve));
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    await ended;
    await rm(folder, { recursive: true, force: true });
  };
  while (child.exitCode === null && child.pid !== undefined) {
    const socket = await openSocket(proxyPort).catch(() => undefined);
    socket?.destroy();
    if (socket !== undefined) return { port: proxyPort, stop };
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await stop();
  return undefined;
}

async function freePort(): Promise<number> {
  const holder = createServer().listen(0, '127.0.0.1');
  await once(holder, 'listening');
  const address = holder.address();
  await new Promise((resolve) => holder.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 0;
}

test('a stream that is cut off looks cut off behind nginx, if nginx is installed', async () => {
  const nginx = await startNginx(port);
  if (nginx === undefined) return;
  try {
    const socket = await openSocket(nginx.port);
    let answer = '';
    socket.on('data', (chunk: Buffer) => {
      answer += chunk.toString('latin1');
      if (answer.includes('{"a":')) body.destroy(new Error('cut'));
    });
    const closed = once(socket, 'close');
    const headers = `host: x\r\nx-loom-admin-token: ${asAdmin['x-loom-admin-token']}\r\nconnection: close\r\n`;
    socket.write(`GET /v1/state HTTP/1.1\r\n${headers}\r\n`);
    // nginx collects the first bytes, so the stream must be longer than its buffer.
    while (body === undefined || body.destroyed) await new Promise((resolve) => setImmediate(resolve));
    body.write(' '.repeat(1_000_000));
    await closed;
    expect(answer).toContain('{"a":');
    expect(answer.endsWith('\r\n0\r\n\r\n')).toBe(false);
  } finally {
    await nginx.stop();
  }
});
