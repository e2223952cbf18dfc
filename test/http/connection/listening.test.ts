import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Store } from '../../../src/domain/store.ts';
import { passConnections } from '../../../src/http/further-addresses.ts';
import { type BareServer, createBareServer, testConfig } from '../../setup/node/http.ts';
import { openSocket, receive, toAnswers } from '../../setup/node/raw.ts';

let node: BareServer;
let port: number;
beforeAll(async () => {
  const store = { observe: () => undefined } as unknown as Store;
  node = createBareServer(store, testConfig('postgres://x@localhost/x', { LOOM_HOST: 'localhost' }));
  ({ port } = await node.listen());
});
afterAll(() => node.close({ timeoutMs: 100 }));

/** Sends a request that Node itself would refuse, and returns the answer. */
async function refusal(host: string) {
  const socket = await openSocket(port, host);
  const answered = receive(socket, (text) => text.endsWith('}\n'));
  socket.write('GET /live HTTP/1.1\r\n\r\n');
  const [answer] = toAnswers(await answered);
  socket.destroy();
  return answer;
}

describe('LOOM_HOST=localhost', () => {
  test('listens on every address of the name, in the same way', async () => {
    for (const { address } of await lookup('localhost', { all: true })) {
      const answer = await refusal(address);
      expect([address, answer?.status, JSON.parse(answer?.body ?? '').code]).toEqual([
        address,
        400,
        'malformed_request',
      ]);
      expect(answer?.headers['x-content-type-options']).toBe('nosniff');
    }
  });

  test('passes the connections of another address on, until it is closed', async () => {
    const other = await passConnections(node.app.server, '127.0.0.2');
    // Only Linux has the whole network 127.0.0.0/8.
    if (other === undefined) return;
    const answer = await refusal('127.0.0.2');
    expect([answer?.status, answer?.headers['x-request-id']]).toEqual([400, expect.any(String)]);
    const idle = await openSocket(port, '127.0.0.2');
    const closed = once(idle, 'close');
    idle.resume();
    node.app.server.closeAllConnections();
    idle.destroy();
    await closed;
    await new Promise((resolve) => other.close(resolve));
    await expect(openSocket(port, '127.0.0.2')).rejects.toThrow('ECONNREFUSED');
  });

  test('does without an address that is not available', async () => {
    expect(await passConnections(node.app.server, '203.0.113.1')).toBeUndefined();
  });
});
