import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { asAdmin, createTestServer, inject, type TestServer } from '../../setup/node/http.ts';
import { exchange, openSocket, receive, toAnswers } from '../../setup/node/raw.ts';

let server: TestServer;
let port: number;
beforeAll(async () => {
  server = await createTestServer();
  ({ port } = await server.listen());
});
afterAll(() => server.close({ timeoutMs: 1_000 }));

const close = 'connection: close\r\n\r\n';
const token = `x-loom-admin-token: ${asAdmin['x-loom-admin-token']}\r\n`;

/** Returns how many requests with this status the metrics have counted. */
async function countedWith(status: number): Promise<number> {
  const { text } = await inject(server, { method: 'GET', url: '/metrics', headers: asAdmin });
  const lines = text.split('\n').filter((line) => line.includes('_count{') || line.includes('_total{'));
  return lines
    .filter((line) => line.includes(`status="${status}"`))
    .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

type Refusal = [what: string, status: number, code: string, bytes: string, detail: RegExp];

/** Requests that Node's parser, Node's server or the router refuses, before a hook would run. */
const refusals: Refusal[] = [
  ['bytes that are not HTTP', 400, 'malformed_request', 'HELLO\r\n\r\n', /not a valid HTTP\/1\.1 request/],
  ['a TLS handshake', 400, 'malformed_request', '\x16\x03\x01\x02\x00\x01\x00', /sent TLS/],
  ['the preface of HTTP/2', 400, 'malformed_request', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', /sent HTTP\/2/],
  ['an unknown method', 400, 'malformed_request', `BREW /live HTTP/1.1\r\nhost: x\r\n${close}`, /known method/],
  ['a space in the path', 400, 'malformed_request', `GET /a b HTTP/1.1\r\nhost: x\r\n${close}`, /as %20/],
  ['a raw byte in the path', 400, 'malformed_request', `GET /\0 HTTP/1.1\r\nhost: x\r\n${close}`, /Percent-encode/],
  ['another version', 400, 'malformed_request', `GET /live HTTP/1.2\r\nhost: x\r\n${close}`, /Use HTTP\/1\.1/],
  ['a header without a colon', 400, 'malformed_request', `GET /live HTTP/1.1\r\nhost\r\n${close}`, /"name: value"/],
  ...['\x00', '\x01', '\x1f', '\x7f'].map((character): Refusal => {
    const bytes = `GET /live HTTP/1.1\r\nhost: x\r\nx-loom-actor: a${character}b\r\n${close}`;
    return [`the control character ${character.charCodeAt(0)} in a header`, 400, 'malformed_request', bytes, /header/];
  }),
  [
    'two lengths',
    400,
    'malformed_request',
    `PUT /v1/state HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n${close}`,
    /one Content-Length/,
  ],
  [
    'a head above 16 KiB',
    431,
    'headers_too_large',
    `GET /live HTTP/1.1\r\nhost: x\r\na: ${'a'.repeat(17_000)}`,
    /16 KiB/,
  ],
  [
    'too many headers',
    431,
    'headers_too_large',
    `GET /live HTTP/1.1\r\nhost: x\r\n${'a:\r\n'.repeat(1_500)}${close}`,
    /200 headers/,
  ],
  ['no Host', 400, 'malformed_request', `GET /live HTTP/1.1\r\n${close}`, /no Host header/],
  [
    'two Hosts',
    400,
    'malformed_request',
    `GET /live HTTP/1.1\r\nhost: x\r\nHost: y\r\n${close}`,
    /several Host headers/,
  ],
  [
    'another expectation',
    417,
    'expectation_failed',
    `PUT /v1/documents/a HTTP/1.1\r\nhost: x\r\nexpect: other\r\n${close}`,
    /Expect: 100-continue/,
  ],
  [
    'another transfer coding',
    400,
    'malformed_request',
    `PUT /v1/documents/a HTTP/1.1\r\nhost: x\r\n${token}transfer-encoding: gzip, chunked\r\n${close}0\r\n\r\n`,
    /Content-Encoding: gzip/,
  ],
  ['a broken path', 400, 'malformed_request', `GET /%zz HTTP/1.1\r\nhost: x\r\n${close}`, /percent-encoding/],
  [
    'a path that is not UTF-8',
    400,
    'malformed_request',
    `GET /v1/documents/%ff HTTP/1.1\r\nhost: x\r\n${close}`,
    /UTF-8/,
  ],
  [
    'a name that is too long',
    422,
    'invalid_document_name',
    `GET /v1/documents/${'a'.repeat(9_000)} HTTP/1.1\r\nhost: x\r\n${token}${close}`,
    /has 9000 bytes; the maximum is 512/,
  ],
  [
    'CONNECT',
    405,
    'method_not_allowed',
    'CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n',
    /CONNECT/,
  ],
  ['OPTIONS *', 404, 'not_found', `OPTIONS * HTTP/1.1\r\nhost: x\r\n${close}`, /No route/],
  ['a method without a route', 404, 'not_found', `PROPFIND /nowhere HTTP/1.1\r\nhost: x\r\n${close}`, /No route/],
  [
    'a method of no route',
    405,
    'method_not_allowed',
    `PROPFIND /v1/state HTTP/1.1\r\nhost: x\r\n${close}`,
    /supports GET/,
  ],
  [
    'an upgrade of an unknown path',
    404,
    'not_found',
    'GET /ws HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade, close\r\n\r\n',
    /No route/,
  ],
];

describe('a request that no route handles', () => {
  test.each(refusals)(
    'is answered like any other error, logged and counted: %s',
    async (_what, status, code, bytes, detail) => {
      const before = await countedWith(status);
      const logStart = server.logged.text().length;
      const [answer] = toAnswers(await exchange(port, Buffer.from(bytes, 'latin1')));
      expect(answer?.status).toBe(status);
      expect(answer?.headers).toMatchObject({
        'content-type': 'application/problem+json; charset=utf-8',
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
        connection: 'close',
        'x-request-id': expect.stringMatching(/^[0-9a-f-]{36}$/),
      });
      const id = answer?.headers['x-request-id'] ?? '';
      const problem = JSON.parse(answer?.body ?? '');
      expect(problem).toMatchObject({ status, code, request_id: id, detail: expect.stringMatching(detail) });
      const lines = server.logged
        .text()
        .slice(logStart)
        .split('\n')
        .filter((line) => line.includes(id));
      expect(lines).toHaveLength(1);
      expect(JSON.parse(lines[0] ?? '')).toMatchObject({ status, req: { id, remoteAddress: '127.0.0.1' } });
      expect(await countedWith(status)).toBe(before + 1);
    },
  );

  test('keeps the request id that the client sent, and the path in the log', async () => {
    const [answer] = toAnswers(
      await exchange(port, `GET /%zz HTTP/1.1\r\nhost: x\r\nx-request-id: mine.7\r\n${close}`),
    );
    expect(answer?.headers['x-request-id']).toBe('mine.7');
    expect(server.logged.text()).toMatch(/"id":"mine\.7","method":"GET","path":"\/%zz"/);
  });

  test('keeps the connection for the next request if its own was understood', async () => {
    const bytes = `GET /%zz HTTP/1.1\r\nhost: x\r\n\r\nGET /live HTTP/1.1\r\nhost: x\r\n${close}`;
    expect(toAnswers(await exchange(port, bytes)).map(({ status }) => status)).toEqual([400, 200]);
  });
});

test('a URL in absolute form is served, as RFC 9112 requires', async () => {
  const answers = [];
  for (const url of ['http://x/live', 'HTTP://x/v1/documents?limit=1', 'https://u@x:1/v1/documents/a/b', 'http://x']) {
    answers.push(...toAnswers(await exchange(port, `GET ${url} HTTP/1.1\r\nhost: x\r\n${token}${close}`)));
  }
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 404, 404]);
});

test('an upgrade to another protocol is ignored', async () => {
  const bytes = 'GET /live HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade, close\r\n\r\n';
  expect(toAnswers(await exchange(port, bytes))[0]).toMatchObject({ status: 200, body: '{"ok":true}\n' });
});

test('a client that still sends receives the answer, and is cut off soon', async () => {
  for (const start of ['GET /live HTTP/1.1\r\nhost: x\r\na: ', 'NONSENSE\r\n\r\n']) {
    const text = await exchange(port, start + 'a'.repeat(4_000_000));
    expect(toAnswers(text)[0]?.status).toBe(start.startsWith('GET') ? 431 : 400);
  }
  const socket = await openSocket(port);
  const answered = receive(socket, (text) => text.endsWith('}\n'));
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.write('NONSENSE\r\n\r\n');
  await answered;
  const sending = setInterval(() => socket.write('a'), 20);
  await closed;
  clearInterval(sending);
});

test('a long answer arrives whole, although its route does not read the body of the request', async () => {
  const text = JSON.stringify('x'.repeat(3_000_000));
  await server.request('PUT', '/v1/documents/long', { body: text });
  const body = 'b'.repeat(2_000_000);
  const head = `GET /v1/documents/long HTTP/1.1\r\nhost: x\r\n${token}content-length: ${body.length}\r\n\r\n`;
  const socket = await openSocket(port);
  // This client takes nothing before it has sent everything.
  const sent = new Promise((resolve) => socket.write(head + body, resolve));
  await sent;
  const [answer] = toAnswers(await receive(socket, () => false));
  expect([answer?.status, answer?.headers.connection, answer?.body === `${text}\n`]).toEqual([200, 'close', true]);
});

test('a HEAD that is not valid HTTP is answered without a body', async () => {
  for (const line of [`a: ${'a'.repeat(17_000)}`, 'no colon']) {
    const text = await exchange(port, `HEAD /live HTTP/1.1\r\nhost: x\r\n${line}\r\n\r\n`);
    expect(text).toMatch(/^HTTP\/1\.1 4[03][01] /);
    expect(text.split('\r\n\r\n')[1]).toBe('');
  }
});

test('a DELETE is accepted with any content-type, because it has no body', async () => {
  for (const type of ['/', '', 'text/plain', 'application/json; charset=x']) {
    await server.request('PUT', '/v1/documents/typed', { body: '1' });
    const deleted = await server.request('DELETE', '/v1/documents/typed', { headers: { 'content-type': type } });
    expect([type, deleted.status]).toEqual([type, 200]);
  }
});

test('a key of a scratch state that is too long is not found', async () => {
  const url = `/v1/admin/persistence/scratch/${'a'.repeat(9_000)}`;
  const answer = await server.request('DELETE', url, { headers: asAdmin });
  expect([answer.status, answer.json().code]).toEqual([404, 'scratch_not_found']);
});

test('a precondition behind many headers is not lost', async () => {
  const headers = `${token}content-type: application/json\r\ncontent-length: 1\r\n${'a:\r\n'.repeat(1_200)}if-match: "other"\r\n`;
  const [answer] = toAnswers(await exchange(port, `PUT /v1/documents/b HTTP/1.1\r\nhost: x\r\n${headers}${close}1`));
  expect(answer?.status).toBe(431);
  expect((await server.request('GET', '/v1/documents/b')).status).toBe(404);
});

test('a header that names another method is ignored', async () => {
  await server.request('PUT', '/v1/documents/kept', { body: '1' });
  const headers = { 'x-http-method-override': 'DELETE', 'x-http-method': 'DELETE', 'x-method-override': 'DELETE' };
  expect((await server.request('GET', '/v1/documents/kept?', { headers })).status).toBe(200);
  expect((await server.request('GET', '/v1/documents/kept')).status).toBe(200);
});

test('a path is taken as it is: neither "//" nor ".." nor a matrix parameter is resolved', async () => {
  for (const path of ['//live', '/v1/../live', '/v1/./state', '/live;a=b', '/live/', '/v1/documents/%2e%2e']) {
    const [answer] = toAnswers(await exchange(port, `GET ${path} HTTP/1.1\r\nhost: x\r\n${token}${close}`));
    expect([path, answer?.status]).toEqual([path, path.includes('%2e') ? 422 : 404]);
  }
});

test('a client that ends its side in the middle of a request learns that it was too early', async () => {
  const head = `PUT /v1/documents/a HTTP/1.1\r\nhost: x\r\n${token}content-type: application/json\r\n`;
  for (const bytes of [head, `${head}content-length: 9\r\n\r\n{`]) {
    const socket = await openSocket(port);
    const answered = receive(socket, () => false);
    socket.end(bytes);
    const [answer] = toAnswers(await answered);
    expect(answer?.status).toBe(400);
    expect(JSON.parse(answer?.body ?? '')).toMatchObject({
      code: 'malformed_request',
      detail: expect.stringContaining('ended the connection before the request was complete'),
    });
  }
});

test('a faulty body is answered under the id of its request', async () => {
  const head = `PUT /v1/documents/a HTTP/1.1\r\nhost: x\r\n${token}content-type: application/json\r\nx-request-id: chunk.1\r\n`;
  const [answer] = toAnswers(await exchange(port, `${head}transfer-encoding: chunked\r\n\r\nnonsense\r\n`));
  expect(answer).toMatchObject({ status: 400, headers: { 'x-request-id': 'chunk.1' } });
  expect(answer?.body).toMatch(/a chunk of the body does not begin with its size/i);
  // The node logs the request when its side of the connection is closed, too.
  await expect.poll(() => server.logged.text(), { timeout: 20_000 }).toMatch(/"id":"chunk\.1"[^\n]*"status":400/);
});
