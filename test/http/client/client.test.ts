import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:net';
import { Readable } from 'node:stream';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createNodeClient, type NodeClient } from '../../../src/http/client/client.ts';
import { NodeError } from '../../../src/http/client/node-error.ts';
import { ADMIN_TOKEN, createTestServer, type TestServer } from '../../setup/node/http.ts';
import { listen } from '../../setup/node/http-proxy.ts';

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function connect(url: string, signal?: AbortSignal): NodeClient {
  const client = createNodeClient({ url, token: ADMIN_TOKEN, ...(signal === undefined ? {} : { signal }) });
  closers.push(client.close);
  return client;
}

/** Connects a client to a server that is not a node. */
async function connectTo(handler: (asked: IncomingMessage, answer: ServerResponse) => void): Promise<NodeClient> {
  const server = await listen(handler);
  closers.push(server.close);
  return connect(server.url);
}

async function faultOf(promise: Promise<unknown>): Promise<NodeError> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof NodeError)) throw new Error(`no NodeError: ${String(error)}`);
  expect(`${error.message} ${error.stack} ${JSON.stringify(error)}`).not.toContain(ADMIN_TOKEN);
  return error;
}

describe('with a node, the client', () => {
  let server: TestServer;
  let url: string;

  beforeAll(async () => {
    server = await createTestServer();
    ({ url } = await server.listen());
    await server.request('PUT', '/v1/documents/a', { body: '1' });
    return () => server.close({ timeoutMs: 1_000 });
  });

  test('returns answers as values', async () => {
    const client = connect(`${url}/`);
    expect(await client.readStatus()).toMatchObject({ ready: { ok: true }, state: { revision: 1, documents: 1 } });
    expect(await client.verifyAudit()).toMatchObject({ ok: true, entries: 1 });
    const { entries } = await client.readAudit({ after: '0', limit: '1' });
    expect(entries).toMatchObject([{ seq: 1, action: 'document.put' }]);
    const { body, isGzip } = await client.openBackup();
    expect(isGzip).toBe(false);
    expect(JSON.parse(Buffer.concat(await body.toArray()).toString())).toMatchObject({ state: { a: 1 } });
    expect((await client.openBackup({ gzip: true, includeAudit: false })).isGzip).toBe(true);
  });

  test('rejects a problem with its code, status, place and request id', async () => {
    const body = Readable.from(['{"confirm":"restore","backup":{"loom_backup_version":1,"state":[]}}']);
    const error = await faultOf(connect(url).restore(body, false));
    expect(error).toMatchObject({ code: 'backup_malformed', status: 422, place: { pointer: '/backup/state' } });
    expect(error.requestId).toMatch(/^[\w-]{8,}$/);
  });

  test('receives a refusal while it still sends a large body, and stops sending', async () => {
    let sent = 0;
    async function* endless(): AsyncGenerator<Buffer> {
      yield Buffer.from('{"confirm":"restore","nonsense":"');
      for (;;) {
        sent += 65_536;
        if (sent > 2 ** 30) throw new Error('the client did not stop sending');
        yield Buffer.alloc(65_536, 'x');
      }
    }
    const error = await faultOf(connect(url).restore(Readable.from(endless(), { objectMode: false }), false));
    expect(error).toMatchObject({ code: 'invalid_restore_request', status: 400 });
  });

  test('rejects a wrong token with the code of the node', async () => {
    const client = createNodeClient({ url, token: 'another-token-than-the-right-one' });
    closers.push(client.close);
    expect(await faultOf(client.readStatus())).toMatchObject({ code: 'forbidden', status: 403 });
  });
});

describe('with another program, the client', () => {
  test.each([
    ['a proxy without its node', 502, 'text/html', '<html>Bad gateway</html>'],
    ['an error page with status 200', 200, 'text/html', '<html>Welcome</html>'],
    ['a JSON error without a code', 500, 'application/json', '{"error":"no"}'],
    ['a redirect', 302, 'text/plain', ''],
    ['another API', 200, 'application/json', '{"status":"up"}'],
    ['a list', 200, 'application/json', '[]'],
    ['text with the content type of JSON', 200, 'application/json', 'no'],
  ])('rejects %s as an unexpected answer', async (_what, status, type, text) => {
    const client = await connectTo((_asked, answer) => {
      answer.writeHead(status, { 'content-type': type, location: '/elsewhere' });
      answer.end(text);
    });
    const error = await faultOf(client.readStatus());
    expect(error).toMatchObject({ code: 'unexpected_answer', status });
    expect(error.message).not.toContain('<html>');
  });

  test.each([
    [302, 'It redirects to "/elsewhere"'],
    [404, 'check the path of the URL'],
    [413, 'nginx: client_max_body_size'],
    [502, 'check that the node runs'],
    [503, 'check that the node runs'],
    [504, 'The node may still be at work'],
    [200, 'Check the URL and any proxy'],
  ])('says what to do about a page of a proxy with status %i', async (status, advice) => {
    const client = await connectTo((_asked, answer) => {
      answer.writeHead(status, { 'content-type': 'text/html', location: '/elsewhere' }).end('<html>');
    });
    const error = await faultOf(client.undo({}));
    expect(error).toMatchObject({ code: 'unexpected_answer', status, message: expect.stringContaining(advice) });
  });

  test('rejects a page in place of a backup before it returns a byte', async () => {
    const client = await connectTo((_asked, answer) => {
      answer.writeHead(200, { 'content-type': 'text/html' }).end('<html>');
    });
    expect(await faultOf(client.openBackup())).toMatchObject({ code: 'unexpected_answer' });
  });

  test.each([
    ['with a content-length', { 'content-length': '1000' }],
    ['in chunks', {}],
  ])('rejects a truncated answer %s', async (_how, headers) => {
    const client = await connectTo((_asked, answer) => {
      answer.writeHead(200, { 'content-type': 'application/json', ...headers });
      answer.write('{"state":', () => answer.destroy());
    });
    expect(await faultOf(client.readStatus())).toMatchObject({ code: 'connection_cut' });
    const { body } = await client.openBackup();
    expect(await faultOf(body.toArray())).toMatchObject({ code: 'connection_cut' });
  });

  test('rejects an endless answer instead of keeping it in memory', async () => {
    const client = await connectTo((_asked, answer) => {
      answer.writeHead(200, { 'content-type': 'application/json' });
      const more = (): void => {
        while (answer.write(Buffer.alloc(65_536, ' '))) if (answer.destroyed) return;
      };
      answer.on('drain', more);
      more();
    });
    const error = await faultOf(client.readStatus());
    expect(error.code).toBe('unexpected_answer');
    expect(error.message).toMatch(/The answer is larger than 64 MiB, the maximum for a status\.$/);
  });

  test('reads seq and hash of an audit entry of any size, and keeps nothing else of it', async () => {
    const hash = 'a'.repeat(64);
    const head = { seq: 7, hash };
    const value = `[${'1e300,'.repeat(6)}"${'x'.repeat(2 ** 20)}"],`;
    const client = await connectTo((_asked, answer) => {
      answer.writeHead(200, { 'content-type': 'application/json' });
      answer.write(`{"head":${JSON.stringify(head)},"entries":[{"changes":[`);
      let values = 0;
      const more = (): void => {
        while (values < 12) {
          values += 1;
          if (!answer.write(value)) return;
        }
        answer.off('drain', more);
        answer.end(`0],"seq":7,"hash":"${hash}","action":"state.put","event_id":"e"}],"next":null}`);
      };
      answer.on('drain', more);
      more();
    });
    const page = await client.readAudit({ after: '6', limit: '1' });
    expect(page).toEqual({ head, next: null, entries: [{ seq: 7, hash, action: 'state.put', event_id: 'e' }] });
  });

  test.each([
    ['cut', '{"entries":[{"seq":1', 'is not a page of audit entries: The text ends'],
    ['of another form', '{"entries":{},"head":{}}', 'It has no list of entries'],
    ['without entries', '{"head":{}}', 'It has no entries or no head'],
    ['not JSON', '<html>', 'is not a page of audit entries'],
  ])('rejects a page of audit entries that is %s', async (_what, text, reason) => {
    const client = await connectTo((_asked, answer) => {
      answer.writeHead(200, { 'content-type': 'application/json' }).end(text);
    });
    const error = await faultOf(client.readAudit({}));
    expect(error).toMatchObject({ code: 'unexpected_answer', message: expect.stringContaining(reason) });
  });

  test('explains in one line that no program listens at the address', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
    await new Promise((resolve) => server.close(resolve));
    const error = await faultOf(connect(`http://127.0.0.1:${port}`).readStatus());
    expect(error.code).toBe('unreachable');
    expect(error.message).toBe(
      `http://127.0.0.1:${port}: The connection was refused: no program listens on this port.`,
    );
  });

  test('rejects a program that does not speak HTTP as an unexpected answer', async () => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.on('data', () => socket.destroy());
      socket.write('SSH-2.0-OpenSSH_9\r\n');
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
    const error = await faultOf(connect(`http://127.0.0.1:${port}`).readStatus());
    await new Promise((resolve) => server.close(resolve));
    expect(error).toMatchObject({ code: 'unexpected_answer', message: expect.stringContaining('does not speak HTTP') });
  });

  test('aborts a request in flight when its signal aborts', async () => {
    const controller = new AbortController();
    const server = await listen(() => controller.abort());
    closers.push(server.close);
    const error = await faultOf(connect(server.url, controller.signal).readStatus());
    expect(error).toMatchObject({ code: 'interrupted', message: 'Interrupted.' });
  });
});
