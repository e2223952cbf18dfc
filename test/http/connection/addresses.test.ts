import { once } from 'node:events';
import type { Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import type { Store } from '../../../src/domain/store.ts';
import { createAddressReader } from '../../../src/http/request/client-address.ts';
import { limits } from '../../../src/limits.ts';
import { type BareServer, createBareServer, inject, testConfig } from '../../setup/node/http.ts';
import { openSocket, receive, toAnswers } from '../../setup/node/raw.ts';

const wrong = 'wrong-token-of-good-length';

/** Reads an address without a server. */
function addressOf(trust: false | number | string[], remoteAddress: string | undefined, forwarded?: string): string {
  const request = { socket: { remoteAddress }, headers: { 'x-forwarded-for': forwarded } };
  return createAddressReader(trust)(request as unknown as Parameters<ReturnType<typeof createAddressReader>>[0]);
}

describe('the address of a client', () => {
  test.each<[trust: false | number | string[], forwarded: string | undefined, address: string]>([
    [false, '1.1.1.1', '10.0.0.9'],
    [1, undefined, '10.0.0.9'],
    [1, '', '10.0.0.9'],
    [1, '6.6.6.6, 2.2.2.2', '2.2.2.2'],
    [2, '6.6.6.6, 2.2.2.2, 10.0.0.8', '2.2.2.2'],
    [2, '2.2.2.2', '2.2.2.2'],
    [['10.0.0.0/8'], '6.6.6.6,2.2.2.2 , 10.0.0.8', '2.2.2.2'],
    [['10.0.0.0/8'], '10.0.0.7', '10.0.0.7'],
    [['10.0.0.9'], '6.6.6.6, 10.0.0.8', '10.0.0.8'],
    [['192.168.0.0/16'], '2.2.2.2', '10.0.0.9'],
    [1, '2.2.2.2:4711', '2.2.2.2'],
    [1, '[2001:db8::1]:4711', '2001:db8::1'],
    [1, '2001:db8::1', '2001:db8::1'],
    [1, '::ffff:2.2.2.2', '2.2.2.2'],
    [1, 'unknown', '10.0.0.9'],
    [1, '2.2.2.2, <script>', '10.0.0.9'],
    [1, '2.2.2.2, ', '10.0.0.9'],
    [1, 'x'.repeat(16_000), '10.0.0.9'],
    [32, ', '.repeat(8_000), '10.0.0.9'],
    [32, `6.6.6.6, ${'2.2.2.2,'.repeat(2_000)}3.3.3.3`, '2.2.2.2'],
  ])('trusting %j and given %j is %s', (trust, forwarded, address) => {
    expect(addressOf(trust, '10.0.0.9', forwarded)).toBe(address);
    expect(addressOf(trust, '::ffff:10.0.0.9', forwarded)).toBe(address);
  });

  test('is known as unknown for a connection without a peer', () => {
    expect(
      addressOf(
        ['loopback'].flatMap(() => ['127.0.0.0/8']),
        undefined,
        '2.2.2.2',
      ),
    ).toBe('unknown');
  });
});

describe('the limit on wrong tokens', () => {
  let node: BareServer;
  afterEach(() => node.close({ timeoutMs: 100 }));
  const start = (env: Record<string, string> = {}): void => {
    node = createBareServer(
      { observe: () => undefined } as unknown as Store,
      testConfig('postgres://x@localhost/x', env),
    );
  };
  const attempt = async (forwarded: string): Promise<number> => {
    const headers = { 'x-loom-admin-token': wrong, 'x-forwarded-for': forwarded };
    const options = { method: 'GET', url: '/v1/state', headers, remoteAddress: '10.0.0.1' } as const;
    return (await inject(node, options)).status;
  };

  test.each(['true', '1', '10.0.0.1', 'uniquelocal'])(
    'counts one client, whatever it claims, with %s',
    async (trust) => {
      start({ LOOM_TRUST_PROXY: trust });
      const statuses = [];
      for (let index = 0; index <= limits.maxWrongTokens; index += 1)
        statuses.push(await attempt(`7.7.7.${index}, 2.2.2.2`));
      expect(statuses).toEqual([...Array(limits.maxWrongTokens).fill(403), 429]);
      expect(await attempt('7.7.7.7, 3.3.3.3')).toBe(403);
    },
  );

  test('counts the proxy itself if it sends no valid address', async () => {
    start({ LOOM_TRUST_PROXY: 'true' });
    for (let index = 0; index < limits.maxWrongTokens; index += 1) await attempt(`nonsense-${index}`);
    expect(await attempt('')).toBe(429);
  });

  test('counts clients that reset the connection at once, without an error in the log', async () => {
    start();
    const { port } = await node.listen();
    const request = `GET /v1/state HTTP/1.1\r\nhost: x\r\nx-loom-admin-token: ${wrong}\r\n\r\n`;
    const refused = (): number => node.logged.text().split('"status":403').length - 1;
    // The kernel drops the bytes of some connections with the reset.
    for (let index = 0; index < 500 && refused() < limits.maxWrongTokens; index += 1) {
      const connected = once(node.app.server, 'connection') as Promise<[Socket]>;
      const socket = await openSocket(port);
      const [peer] = await connected;
      const closed = new Promise((resolve) => peer.once('close', resolve));
      socket.write(request);
      socket.resetAndDestroy();
      await closed;
    }
    const last = await openSocket(port);
    last.write(request);
    expect(toAnswers(await receive(last, (text) => text.endsWith('}\n')))[0]?.status).toBe(429);
    last.destroy();
    const lines = node.logged
      .text()
      .split('\n')
      .filter((line) => line.includes('"req"'));
    expect(new Set(lines.map((line) => JSON.parse(line).req.remoteAddress))).toEqual(new Set(['127.0.0.1']));
    expect(node.logged.text()).not.toMatch(/"level":"error"|"status":500/);
  });
});
