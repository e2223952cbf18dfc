import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { createLogger } from '../../src/log.ts';
import { createPing } from '../../src/runs/ping.ts';

test('a ping adds /fail to the path, keeps the query, and logs nothing but the origin', async () => {
  const paths: string[] = [];
  const lines: string[] = [];
  const log = createLogger({ level: 'trace', stream: { write: (line) => void lines.push(line) } });
  const server = createServer(({ url = '' }, answer) => {
    paths.push(url);
    answer.writeHead(url.includes('fail') ? 500 : 200).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const ping = createPing(`${origin}/token/?source=loom`, log);
  ping.succeeded();
  await ping.close();
  expect(lines).toEqual([]);
  ping.failed();
  await ping.close();
  expect(paths).toEqual(['/token/?source=loom', '/token/fail?source=loom']);
  await new Promise((resolve) => server.close(resolve));
  ping.succeeded();
  await ping.close();
  expect(lines).toHaveLength(2);
  expect(lines.join('')).toContain(origin);
  expect(lines.join('')).not.toContain('token');
});

test('without a URL, a ping does nothing', async () => {
  const ping = createPing(undefined, createLogger({ level: 'silent' }));
  ping.succeeded();
  ping.failed();
  await ping.close();
});

test('a service that does not answer does not hold up the end of a node for longer than a moment', async () => {
  const lines: string[] = [];
  const log = createLogger({ level: 'trace', stream: { write: (line) => void lines.push(line) } });
  const server = createServer(() => undefined);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const ping = createPing(`http://127.0.0.1:${(server.address() as AddressInfo).port}/token`, log);
  ping.succeeded();
  await ping.close();
  // The deadline of the request itself would be a TimeoutError.
  expect(lines).toEqual([expect.stringMatching(/"cause":"(AbortError|UND_ERR_ABORTED)".*the ping of a backup failed/)]);
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});
