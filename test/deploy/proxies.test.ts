import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, onTestFinished } from 'vitest';
import { limits } from '../../src/limits.ts';
import { balancers } from '../setup/deploy/balancers.ts';
import { testWithTool } from '../setup/deploy/tools.ts';

interface Seen {
  method: string | undefined;
  url: string | undefined;
  headers: number;
  bytes: number;
  forwardedFor: string | undefined;
  key: string | undefined;
}

interface Site {
  url: string;
  /** What the servers behind the balancer have seen, except for its own checks. */
  seen: Seen[];
}

/**
 * Starts a balancer in front of two servers. They answer with what they have seen, or destroy the connection of a path
 * that ends in `/drop` before they answer, and of one that ends in `/cut` within the answer.
 */
async function startSite(start: (nodes: number[]) => Promise<{ url: string }>): Promise<Site> {
  const seen: Seen[] = [];
  const ports = await Promise.all([startServer(seen), startServer(seen)]);
  const { url } = await start(ports);
  seen.splice(0);
  return { url, seen };
}

async function startServer(seen: Seen[]): Promise<number> {
  const server = createServer({ maxHeaderSize: 64 * 1024 }, (asked, answer) => {
    const { method, url, rawHeaders, headers } = asked;
    if (url === '/ready') return void answer.end('{}');
    const [forwardedFor, key] = ['x-forwarded-for', 'idempotency-key'].map((header) => headers[header]?.toString());
    const entry: Seen = { method, url, headers: rawHeaders.length / 2, bytes: 0, forwardedFor, key };
    seen.push(entry);
    if (url?.endsWith('/drop')) return void asked.socket.destroy();
    asked.on('data', (chunk: Buffer) => {
      entry.bytes += chunk.length;
    });
    asked.on('end', () => {
      if (!url?.endsWith('/cut')) return void answer.end(JSON.stringify(entry));
      answer.write('x'.repeat(100_000));
      setTimeout(() => asked.socket.destroy(), 50);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** Sends a request with exactly this path. Resolves with the status, or 0 if the answer did not end. */
function send(
  url: string,
  path: string,
  {
    method = 'GET',
    headers = {},
    body = '',
  }: { method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<number> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const asked = request({ hostname, port, path, method, headers, agent: false }, (answer) => {
      answer.on('error', () => resolve(0));
      answer.on('end', () => resolve(answer.statusCode ?? 0));
      answer.resume();
    });
    asked.on('error', () => resolve(0));
    asked.end(body);
  });
}

/** Names of documents that a proxy could change on the way, percent-encoded as a client writes them. */
const names = [
  'a%2Fb',
  'a%2fb%2F%2Fc',
  '%2Fa',
  'a%2F..%2Fb',
  '%2E%2E%2Fx',
  'a%20b%3Fc%23d%25',
  '%C3%A9%F0%9F%98%80',
  '%41',
];

describe.each(Object.entries(balancers))('%s with the file of docs/deploy', (name, start) => {
  testWithTool(name, 'passes names, heads and bodies as they are', async () => {
    const { url, seen } = await startSite(start);
    const paths = [...names.map((one) => `/v1/documents/${one}`), '/v1/documents?prefix=a%2Fb', '/v1/documents/a//b'];
    for (const path of paths) expect([path, await send(url, path)]).toEqual([path, 200]);
    expect(seen.map((one) => one.url)).toEqual(paths);

    // The largest head that Node accepts. The proxy adds a few headers.
    const longest = { a: 'a'.repeat(15 * 1024) };
    const many = Object.fromEntries(Array.from({ length: limits.maxRequestHeaders - 10 }, (_, n) => [`h${n}`, '1']));
    expect([await send(url, '/', { headers: longest }), await send(url, '/', { headers: many })]).toEqual([200, 200]);
    expect(seen.at(-1)?.headers).toBeGreaterThan(limits.maxRequestHeaders - 10);

    const body = 'x'.repeat(3 * 1024 * 1024);
    const forged = { 'x-forwarded-for': '192.0.2.1' };
    expect(await send(url, '/', { method: 'PUT', body, headers: forged })).toBe(200);
    expect(seen.at(-1)).toMatchObject({ method: 'PUT', bytes: body.length, forwardedFor: '127.0.0.1' });
  });

  testWithTool(name, 'sends a change again only with a key that makes it once', async () => {
    const { url, seen } = await startSite(start);
    const keysOf = async (method: string, path: string, headers = {}): Promise<(string | undefined)[]> => {
      seen.splice(0);
      await send(url, path, { method, body: '{}', headers });
      return seen.map(({ key }) => key);
    };
    expect(await keysOf('POST', '/v1/admin/persistence/drop')).toEqual([undefined]);
    for (const method of ['PUT', 'PATCH', 'DELETE']) {
      const keys = await keysOf(method, '/drop');
      if (name !== 'nginx') expect([method, keys]).toEqual([method, [undefined]]);
      else expect([method, keys]).toEqual([method, [expect.stringMatching(/^[0-9a-f]{32}$/), keys[0]]]);
      const own = await keysOf(method, '/drop', { 'idempotency-key': 'own' });
      expect([own.length > 1, new Set(own)]).toEqual([true, new Set(['own'])]);
    }
  });

  testWithTool(name, 'shows the client that an answer is cut off', async () => {
    const { url } = await startSite(start);
    expect(await send(url, '/cut')).toBe(0);
  });
});
