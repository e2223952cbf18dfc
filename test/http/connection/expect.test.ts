import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { limits } from '../../../src/limits.ts';
import { asAdmin, createTestServer, type TestServer } from '../../setup/node/http.ts';
import { openSocket, receive, toAnswers } from '../../setup/node/raw.ts';

let server: TestServer;
let port: number;
beforeAll(async () => {
  server = await createTestServer();
  ({ port } = await server.listen());
});
afterAll(() => server.close({ timeoutMs: 1_000 }));

const token = `x-loom-admin-token: ${asAdmin['x-loom-admin-token']}\r\n`;
const json = 'content-type: application/json\r\n';
const INVITATION = 'HTTP/1.1 100 Continue\r\n\r\n';

function headOf(path: string, headers: string, method = 'PUT'): string {
  return `${method} ${path} HTTP/1.1\r\nhost: x\r\n${headers}expect: 100-continue\r\n\r\n`;
}

/** Sends a head, and returns the first text that the server sends before any byte of the body. */
async function firstAnswer(head: string): Promise<string> {
  const socket = await openSocket(port);
  const answered = receive(
    socket,
    (text) => text.includes('\r\n\r\n') && (text.endsWith('\n\r\n') || text.endsWith('}\n')),
  );
  socket.write(head);
  const text = await answered;
  socket.destroy();
  return text;
}

describe('a body with Expect: 100-continue', () => {
  test('is invited when the route begins to read it', async () => {
    const socket = await openSocket(port);
    const invited = receive(socket, (text) => text.endsWith(INVITATION));
    socket.write(headOf('/v1/documents/invited', `${token}${json}content-length: 2\r\n`));
    expect(await invited).toBe(INVITATION);
    const answered = receive(socket, (text) => text.endsWith('}\n'));
    socket.write('17');
    expect(toAnswers(await answered)[0]?.status).toBe(201);
    // The connection serves the next request.
    const next = receive(socket, (text) => text.endsWith('17\n'));
    socket.write(`GET /v1/documents/invited HTTP/1.1\r\nhost: x\r\n${token}\r\n`);
    expect(toAnswers(await next)[0]?.status).toBe(200);
    socket.destroy();
  });

  const length = 'content-length: 100\r\n';
  test.each([
    ['no token', 401, headOf('/v1/documents/a', `${json}${length}`)],
    ['a wrong token', 403, headOf('/v1/documents/a', `x-loom-admin-token: ${'w'.repeat(20)}\r\n${json}${length}`)],
    ['no route', 404, headOf('/v1/nowhere', `${token}${json}${length}`)],
    ['no such method', 405, headOf('/v1/documents/a', `${token}${json}${length}`, 'POST')],
    ['another media type', 415, headOf('/v1/documents/a', `${token}content-type: text/plain\r\n${length}`)],
    ['a body above the limit', 413, headOf('/v1/documents/a', `${token}${json}content-length: 999999999\r\n`)],
    ['an unknown parameter', 400, headOf('/v1/documents/a?x=1', `${token}${json}${length}`)],
    [
      'a restore without a token',
      401,
      headOf('/v1/admin/persistence/restore', `${json}transfer-encoding: chunked\r\n`, 'POST'),
    ],
    [
      'a restore of another type',
      415,
      headOf('/v1/admin/persistence/restore', `${token}transfer-encoding: chunked\r\n`, 'POST'),
    ],
  ])('is refused at once, uninvited: %s', async (_what, status, head) => {
    const startedAt = performance.now();
    const text = await firstAnswer(head);
    expect(text).not.toContain('100 Continue');
    expect(toAnswers(text)[0]).toMatchObject({ status, headers: { connection: 'close' } });
    // It does not wait for a body that never comes.
    expect(performance.now() - startedAt).toBeLessThan(limits.lingerMs);
  });

  test('behind another request is invited after the answer to that one', async () => {
    const socket = await openSocket(port);
    const answered = receive(socket, (text) => text.endsWith(INVITATION));
    const get = `GET /live HTTP/1.1\r\nhost: x\r\n\r\n`;
    socket.write(get + headOf('/v1/documents/later', `${token}${json}content-length: 1\r\n`));
    const [before = '', after] = (await answered).split('{"ok":true}\n');
    expect([before.slice(0, 13), after]).toEqual(['HTTP/1.1 200 ', INVITATION]);
    socket.destroy();
  });
});
