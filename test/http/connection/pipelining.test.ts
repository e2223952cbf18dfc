import { EventEmitter, once } from 'node:events';
import type { Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Store } from '../../../src/domain/store.ts';
import { limits } from '../../../src/limits.ts';
import { asAdmin, createBareServer, createTestServer, type TestServer, testConfig } from '../../setup/node/http.ts';
import { exchange, openSocket, toAnswers } from '../../setup/node/raw.ts';

let server: TestServer;
let port: number;
beforeAll(async () => {
  server = await createTestServer();
  ({ port } = await server.listen());
});
afterAll(() => server.close({ timeoutMs: 1_000 }));

const token = `x-loom-admin-token: ${asAdmin['x-loom-admin-token']}\r\n`;

function requestOf(method: string, path: string, body?: string, more = ''): string {
  const length = body === undefined ? '' : `content-type: application/json\r\ncontent-length: ${body.length}\r\n`;
  return `${method} ${path} HTTP/1.1\r\nhost: x\r\n${token}${length}${more}\r\n${body ?? ''}`;
}

const lastRequest = 'GET /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n';

describe('pipelined requests of one connection', () => {
  test('are made in their order, although each takes longer than the next', async () => {
    const writes: string[] = [];
    for (let index = 0; index < 20; index += 1) {
      const body = JSON.stringify({ index, text: 'x'.repeat(index % 2 === 0 ? 200_000 : 1) });
      writes.push(requestOf('PUT', '/v1/documents/turns', body), requestOf('DELETE', '/v1/documents/turns'));
      writes.push(requestOf('GET', '/v1/documents/turns'));
    }
    const answers = toAnswers(await exchange(port, writes.join('') + lastRequest));
    expect(answers.map(({ status }) => status)).toEqual([...Array(20).fill([201, 200, 404]).flat(), 200]);
    const revisions = answers.filter(({ status, body }) => status < 400 && body.includes('revision'));
    const numbers = revisions.map(({ body }) => Number(JSON.parse(body).revision));
    expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
    expect(new Set(numbers).size).toBe(40);
  });

  test('see the writes before them', async () => {
    const values = Array.from({ length: 30 }, (_, index) => index);
    const bytes = values.map(
      (value) => requestOf('PUT', '/v1/documents/own', `${value}`) + requestOf('GET', '/v1/documents/own'),
    );
    const answers = toAnswers(await exchange(port, bytes.join('') + lastRequest));
    const reads = answers.filter((_, index) => index % 2 === 1).map(({ body }) => Number(body));
    expect(reads).toEqual(values);
  });

  test('behind an answer that closes the connection are not made', async () => {
    const closing = requestOf('PUT', '/v1/documents/closing', '1', 'connection: close\r\n');
    const answers = toAnswers(await exchange(port, closing + requestOf('PUT', '/v1/documents/ignored', '1')));
    expect(answers.map(({ status }) => status)).toEqual([201]);
    expect((await server.request('GET', '/v1/documents/ignored')).status).toBe(404);
  });

  test('are answered before the bytes behind them that are not HTTP', async () => {
    const bytes = `${requestOf('PUT', '/v1/documents/before', '1')}${requestOf('GET', '/v1/documents/before')}HELLO\r\n\r\n`;
    const answers = toAnswers(await exchange(port, bytes));
    expect(answers.map(({ status }) => status)).toEqual([201, 200, 400]);
    expect(JSON.parse(answers[2]?.body ?? '').code).toBe('malformed_request');
  });

  test('are answered before a CONNECT, and before a request with a faulty body', async () => {
    const first = requestOf('PUT', '/v1/documents/first', '1');
    const connect = 'CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n';
    expect(toAnswers(await exchange(port, first + connect)).map(({ status }) => status)).toEqual([201, 405]);
    const faulty = `${requestOf('PUT', '/v1/documents/second', undefined, 'content-type: application/json\r\ntransfer-encoding: chunked\r\n')}zz\r\n`;
    expect(toAnswers(await exchange(port, first + faulty)).map(({ status }) => status)).toEqual([200, 400]);
  });

  test('of a client that disconnects are not made', async () => {
    const hold = new EventEmitter();
    const commits: string[] = [];
    const store: Store = {
      ...server.store,
      submitCommit: async (commit) => {
        commits.push(commit.changes[0]?.name ?? '');
        hold.emit('started');
        await once(hold, 'released');
        return server.store.submitCommit(commit);
      },
    };
    const node = createBareServer(store, testConfig(server.database.url));
    try {
      const { port: nodePort } = await node.listen();
      const connected = once(node.app.server, 'connection') as Promise<[Socket]>;
      const socket = await openSocket(nodePort);
      const [peer] = await connected;
      const started = once(hold, 'started');
      socket.write(requestOf('PUT', '/v1/documents/one', '1') + requestOf('PUT', '/v1/documents/two', '1'));
      await started;
      const closed = new Promise((resolve) => peer.once('close', resolve));
      socket.resetAndDestroy();
      await closed;
      hold.emit('released');
      await server.request('GET', '/v1/state');
      expect(commits).toEqual(['one']);
    } finally {
      await node.close({ timeoutMs: 100 });
    }
  });

  test('may be thousands: all are answered, and few wait in memory at a time', async () => {
    // Twice as many as one read of the socket has.
    const total = 2_048;
    let waitingMost = 0;
    let begun = 0;
    let done = 0;
    const count = (_request: unknown, response: EventEmitter): void => {
      begun += 1;
      waitingMost = Math.max(waitingMost, begun - done);
      response.once('close', () => {
        done += 1;
      });
    };
    server.app.server.on('request', count);
    const one = `GET /live HTTP/1.1\r\nhost: x\r\nx-padding: ${'x'.repeat(20)}\r\n\r\n`;
    expect(one).toHaveLength(64);
    const answers = toAnswers(await exchange(port, one.repeat(total) + lastRequest));
    server.app.server.off('request', count);
    expect(answers.every(({ status }) => status === 200)).toBe(true);
    expect(answers.length).toBe(total + 1);
    // One read of the socket has at most 64 KiB, and the node reads no more while many requests wait.
    expect(waitingMost).toBeLessThanOrEqual(limits.maxPipelinedRequests + Math.ceil((64 * 1024) / one.length) + 1);
  });

  test('are handled in different turns of the event loop, so that other clients are served between them', async () => {
    let calls = 0;
    let turns = 0;
    let counting = true;
    const readDocument = async () => {
      calls += 1;
      return undefined;
    };
    const node = createBareServer({ ...server.store, readDocument }, testConfig(server.database.url));
    const countTurn = (): void => {
      if (calls > 0) turns += 1;
      if (counting) setImmediate(countTurn);
    };
    try {
      const { port: nodePort } = await node.listen();
      countTurn();
      const flood = requestOf('GET', '/v1/documents/a').repeat(300);
      expect(toAnswers(await exchange(nodePort, flood + lastRequest))).toHaveLength(301);
      expect(calls).toBe(300);
      expect(turns).toBeGreaterThanOrEqual(calls);
    } finally {
      counting = false;
      await node.close({ timeoutMs: 100 });
    }
  });

  test('of many connections together wait in a bounded number', async () => {
    const unanswered = { ...server.store, readDocument: () => new Promise(() => undefined) } as unknown as Store;
    const node = createBareServer(unanswered, testConfig(server.database.url));
    try {
      const { port: nodePort } = await node.listen();
      const flood = requestOf('GET', '/v1/documents/a') + 'GET / HTTP/1.1\r\nhost:\r\n\r\n'.repeat(2_500);
      const sockets = [];
      let open = 0;
      node.app.server.on('connection', (peer: Socket) => {
        open += 1;
        peer.once('close', () => {
          open -= 1;
        });
      });
      for (let index = 0; index < 20; index += 1) {
        const socket = await openSocket(nodePort);
        sockets.push(socket);
        socket.write(flood);
      }
      const last = await openSocket(nodePort);
      last.resume();
      last.write(flood);
      await once(last, 'close');
      expect(open).toBeGreaterThanOrEqual(Math.floor(limits.maxWaitingRequests / 2_600));
      expect(open).toBeLessThan(10);
      expect(node.logged.text()).toContain('too many pipelined requests are waiting');
      // Other clients are served, with a few requests in a row.
      const { text } = await fetch(`http://127.0.0.1:${nodePort}/live`).then(async (answer) => ({
        text: await answer.text(),
      }));
      expect(text).toBe('{"ok":true}\n');
      const live = 'GET /live HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(limits.maxPipelinedRequests - 1);
      expect(toAnswers(await exchange(nodePort, live + lastRequest))).toHaveLength(limits.maxPipelinedRequests);
      for (const socket of sockets) socket.destroy();
    } finally {
      await node.close({ timeoutMs: 100 });
    }
  });
});
