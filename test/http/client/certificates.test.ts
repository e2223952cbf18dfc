import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer as createHttpServer } from 'node:http';
import { createServer, type Server } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generate } from 'selfsigned';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { statusReport } from '../../setup/cli/fake-node.ts';
import { ADMIN_TOKEN } from '../../setup/node/http.ts';
import { runCommandLine } from '../../setup/node/program.ts';

let folder: string;
let server: Server;
let port: number;

/** Creates a self-signed certificate for `localhost` and no other name. */
async function createCertificate() {
  const made = await generate([{ name: 'commonName', value: 'localhost' }], {
    keyType: 'ec',
    algorithm: 'sha256',
    extensions: [{ name: 'subjectAltName', altNames: [{ type: 2, value: 'localhost' }] }],
  });
  return { cert: made.cert, key: made.private };
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'loom-certificates-'));
  const certificate = await createCertificate();
  await writeFile(join(folder, 'node.pem'), certificate.cert);
  server = createServer(certificate, (_asked, answer) => {
    answer.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(statusReport()));
  });
  server.listen(0, 'localhost');
  await once(server, 'listening');
  const address = server.address();
  port = typeof address === 'object' ? (address?.port ?? 0) : 0;
});
afterAll(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await rm(folder, { recursive: true, force: true });
});

const status = (url: string, env: Record<string, string> = {}) =>
  runCommandLine(`node ${inject('programEntry')} status --url ${url}`, {
    directory: folder,
    env: { LOOM_ADMIN_TOKEN: ADMIN_TOKEN, ...env },
  });

it('a self-signed certificate is refused with a hint, and the hint works', async () => {
  const url = `https://localhost:${port}`;
  const refused = await status(url);
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('NODE_EXTRA_CA_CERTS') });
  expect(refused.stderr).toMatch(/^status failed: unreachable\n/);
  const accepted = await status(url, { NODE_EXTRA_CA_CERTS: join(folder, 'node.pem') });
  expect(accepted).toMatchObject({ code: 0, stdout: expect.stringMatching(/^ready +yes\n/) });
});

it('a certificate for another name is refused with a hint', async () => {
  const { address } = Object(server.address());
  const host = address === '::1' ? '[::1]' : address;
  const refused = await status(`https://${host}:${port}`, { NODE_EXTRA_CA_CERTS: join(folder, 'node.pem') });
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('for another host name') });
});

it('https to a node without TLS is explained', async () => {
  const plain = createHttpServer().listen(0, 'localhost');
  await once(plain, 'listening');
  const { port: plainPort } = Object(plain.address());
  const { stderr } = await status(`https://localhost:${plainPort}`);
  await new Promise((resolve) => plain.close(resolve));
  expect(stderr).toContain('does not speak TLS. If it is a node without TLS, use http:// in the URL.');
});
