import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { asAdmin, createTestServer, readinessFor, readyNow, type TestServer } from '../../setup/node/http.ts';
import { exchange, openSocket, receive, toAnswers } from '../../setup/node/raw.ts';

let server: TestServer;
let port: number;
beforeAll(async () => {
  // At `debug`, each probe has a line and takes the usual way.
  server = await createTestServer({ LOOM_LOG_LEVEL: 'info' });
  ({ port } = await server.listen());
});
afterAll(() => server.close());

/** Sends a request and one more, which closes the connection. Returns the first answer as sent. */
async function ask(head: string, body = ''): Promise<string> {
  const text = await exchange(
    port,
    `${head}\r\n\r\n${body}GET /live?last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n`,
  );
  return text.slice(0, text.lastIndexOf('HTTP/1.1 '));
}

/** Replaces what differs between two equal answers. */
function comparable(answer: string): string {
  return answer
    .replace(/^(x-request-id: )[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/m, '$1ID')
    .replace(/^(date: ).*GMT/im, '$1DATE');
}

async function countOf(route: string, status: number): Promise<number> {
  const { text } = await server.request('GET', '/metrics', { headers: asAdmin });
  const series = `loom_http_request_duration_seconds_count{method="GET",route="${route}",status="${status}"} `;
  return Number(
    text
      .split('\n')
      .find((line) => line.startsWith(series))
      ?.slice(series.length) ?? 0,
  );
}

describe('a plain probe', () => {
  test.each([
    ['/live', readyNow, 200],
    ['/ready', readyNow, 200],
    ['/live', readinessFor('unreachable', 'unknown'), 200],
    ['/ready', readinessFor('unreachable', 'unknown'), 503],
    ['/ready', readinessFor('ok', 'ahead'), 503],
  ])('gets the same answer as one with a query, and is counted: %s, %j', async (path, readiness, status) => {
    server.setReadiness(readiness);
    try {
      const before = await countOf(path, status);
      const plain = await ask(`GET ${path} HTTP/1.1\r\nhost: a`);
      const usual = await ask(`GET ${path}?a=1 HTTP/1.1\r\nhost: a`);
      expect(plain).toContain(`HTTP/1.1 ${status} `);
      expect(plain).toMatch(/\r\n\r\n\{.*\}\n$/);
      expect(comparable(plain)).toBe(comparable(usual));
      // The request that closes the connection is one of /live.
      const lastToo = path === '/live' ? 2 : 0;
      expect(await countOf(path, status)).toBe(before + 2 + lastToo);
    } finally {
      server.setReadiness(readyNow);
    }
  });

  test('gets the last answer of its connection while the node drains', async () => {
    server.setReadiness(readinessFor('ok', 'ok', true));
    const text = await exchange(port, 'GET /ready HTTP/1.1\r\nhost: a\r\n\r\nGET /live HTTP/1.1\r\nhost: a\r\n\r\n');
    server.setReadiness(readyNow);
    expect(toAnswers(text)).toMatchObject([{ status: 503, headers: { connection: 'close' } }]);
  });

  test('keeps the id of the client, and gets a new one in each answer otherwise', async () => {
    expect(await ask('GET /ready HTTP/1.1\r\nhost: a\r\nx-request-id: mine')).toContain('x-request-id: mine\r\n');
    const ids = toAnswers(
      (await ask('GET /ready HTTP/1.1\r\nhost: a')) + (await ask('GET /ready HTTP/1.1\r\nhost: a')),
    );
    expect(new Set(ids.map(({ headers }) => headers['x-request-id'])).size).toBe(2);
  });

  test('is answered in its place among pipelined requests', async () => {
    const heads = ['/v1/documents', '/ready', '/nowhere', '/live', '/ready?a=1', '/ready'];
    const text = await exchange(
      port,
      heads
        .map(
          (path, index) =>
            `GET ${path} HTTP/1.1\r\nhost: a\r\nx-request-id: r${index}\r\n${index === 5 ? 'connection: close\r\n' : ''}\r\n`,
        )
        .join(''),
    );
    const answers = toAnswers(text);
    expect(answers.map(({ headers }) => headers['x-request-id'])).toEqual(['r0', 'r1', 'r2', 'r3', 'r4', 'r5']);
    expect(answers.map(({ status }) => status)).toEqual([401, 200, 404, 200, 200, 200]);
  });

  test('sees a new verdict at once', async () => {
    const socket = await openSocket(port);
    const next = async (): Promise<number | undefined> => {
      const answer = receive(socket, (text) => text.endsWith('}\n'));
      socket.write('GET /ready HTTP/1.1\r\nhost: a\r\n\r\n');
      return toAnswers(await answer)[0]?.status;
    };
    expect(await next()).toBe(200);
    server.setReadiness(readinessFor('slow', 'unknown'));
    expect(await next()).toBe(503);
    server.setReadiness(readyNow);
    expect(await next()).toBe(200);
    socket.destroy();
  });
});

test.each([
  ['without a host', 'GET /ready HTTP/1.1', 400],
  ['with two hosts', 'GET /ready HTTP/1.1\r\nhost: a\r\nHost: a', 400],
  ['with a token in the query', 'GET /ready?token=a HTTP/1.1\r\nhost: a', 400],
  ['with an unknown expectation', 'GET /ready HTTP/1.1\r\nhost: a\r\nexpect: magic', 417],
  ['with too many headers', `GET /ready HTTP/1.1\r\nhost: a${'\r\na: b'.repeat(200)}`, 431],
  ['with another method', 'PUT /ready HTTP/1.1\r\nhost: a', 405],
  ['with HEAD', 'HEAD /ready HTTP/1.1\r\nhost: a', 200],
  ['with an unknown path', 'GET /ready/ HTTP/1.1\r\nhost: a', 404],
])('a probe %s is judged like every request', async (_form, head, status) => {
  expect(await ask(head)).toMatch(new RegExp(`^HTTP/1.1 ${status} [\\s\\S]*x-request-id`));
});

test('a probe with a body is answered, and the body is no request', async () => {
  const answer = await ask('GET /ready HTTP/1.1\r\nhost: a\r\ncontent-length: 5', 'GET /');
  expect(toAnswers(answer).map(({ status }) => status)).toEqual([200]);
});
