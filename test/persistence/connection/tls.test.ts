import { generate } from 'selfsigned';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Database, openDatabase } from '../../../src/persistence/connection/database.ts';
import { createProbe } from '../../../src/persistence/probe/probe.ts';
import { testConfig } from '../../setup/node/config.ts';
import { captureLog } from '../../setup/node/log.ts';
import { type PrivateServer, startPrivateServer } from '../../setup/server/private-server.ts';

interface Authority {
  certificate: string;
  key: string;
}

async function createAuthority(name: string): Promise<Authority> {
  const made = await generate([{ name: 'commonName', value: name }], {
    keyType: 'ec',
    algorithm: 'sha256',
    extensions: [
      { name: 'basicConstraints', cA: true, critical: true },
      { name: 'keyUsage', keyCertSign: true, cRLSign: true, critical: true },
    ],
  });
  return { certificate: made.cert, key: made.private };
}

/** A certificate for `localhost` only. At `127.0.0.1`, the same server has the wrong certificate. */
async function createCertificate(authority: Authority): Promise<{ certificate: string; key: string }> {
  const made = await generate([{ name: 'commonName', value: 'localhost' }], {
    keyType: 'ec',
    algorithm: 'sha256',
    ca: { cert: authority.certificate, key: authority.key },
    extensions: [
      { name: 'basicConstraints', cA: false },
      { name: 'extKeyUsage', serverAuth: true },
      { name: 'subjectAltName', altNames: [{ type: 2, value: 'localhost' }] },
    ],
  });
  return { certificate: made.cert, key: made.private };
}

let authority: Authority;
let stranger: Authority;
let server: PrivateServer;
let plainServer: PrivateServer;
beforeAll(async () => {
  [authority, stranger] = await Promise.all([createAuthority('LOOM test CA'), createAuthority('another CA')]);
  const ssl = { ...(await createCertificate(authority)), required: true };
  [server, plainServer] = await Promise.all([startPrivateServer({ ssl }), startPrivateServer()]);
});
afterAll(async () => {
  await Promise.all([server?.stop(), plainServer?.stop()]);
});

const databases: Database[] = [];
afterEach(async () => {
  await Promise.all(databases.splice(0).map((one) => one.close({ deadlineMs: 1_000 })));
});

function urlAt(host: string, of: PrivateServer = server): string {
  const url = new URL(of.url);
  url.hostname = host;
  return url.href;
}

/** Sends a query as a node with these variables would. */
async function askTls(url: string, variables: Record<string, string>): Promise<unknown> {
  const { postgres } = testConfig(url, variables);
  const database = openDatabase(postgres, { log: captureLog().log, applicationName: 'loom' });
  databases.push(database);
  const row = await database.firstRow<{ ssl: boolean }>('select ssl from pg_stat_ssl where pid = pg_backend_pid()');
  return row?.ssl;
}

/** Returns the log of a probe that watches this database. */
async function probeLog(url: string, variables: Record<string, string>): Promise<string> {
  const captured = captureLog();
  const { postgres } = testConfig(url, { LOOM_PG_SSL: 'true', ...variables });
  const probe = createProbe({ postgres, log: captured.log, applicationName: 'loom', supportedSchemaVersion: 1 });
  probe.start();
  await expect.poll(() => probe.verdict().reason, { timeout: 10_000 }).toBe('db_unreachable');
  await probe.close();
  const warning = captured.lines.find((line) => line.includes('"level":"warn"')) ?? '';
  return JSON.parse(warning).msg;
}

describe('with LOOM_PG_SSL=true', () => {
  test('a certificate of the CA for this host is accepted, and the connection is encrypted', async () => {
    expect(await askTls(urlAt('localhost'), { LOOM_PG_SSL: 'true', LOOM_PG_SSL_CA: authority.certificate })).toBe(true);
  });

  test('a CA among several is enough', async () => {
    const bundle = `${stranger.certificate}\n${authority.certificate}`;
    expect(await askTls(urlAt('localhost'), { LOOM_PG_SSL: 'true', LOOM_PG_SSL_CA: bundle })).toBe(true);
  });

  test('a certificate of another CA is refused, and the log says so', async () => {
    const variables = { LOOM_PG_SSL: 'true', LOOM_PG_SSL_CA: stranger.certificate };
    await expect(askTls(urlAt('localhost'), variables)).rejects.toMatchObject({ code: 'database_unavailable' });
    expect(await probeLog(urlAt('localhost'), variables)).toMatch(
      /certificate is not trusted \(\w+\): check LOOM_PG_SSL_CA/,
    );
  });

  test('a certificate of an unknown CA is refused when no CA is configured', async () => {
    await expect(askTls(urlAt('localhost'), { LOOM_PG_SSL: 'true' })).rejects.toMatchObject({
      code: 'database_unavailable',
    });
  });

  test('a certificate for another host name is refused, and the log says so', async () => {
    const variables = { LOOM_PG_SSL: 'true', LOOM_PG_SSL_CA: authority.certificate };
    await expect(askTls(urlAt('127.0.0.1'), variables)).rejects.toMatchObject({ code: 'database_unavailable' });
    expect(await probeLog(urlAt('127.0.0.1'), variables)).toContain(
      'is for another host name than the one in LOOM_PG_URL',
    );
  });

  test('each of several hosts must have a certificate for its own name', async () => {
    const variables = { LOOM_PG_SSL: 'true', LOOM_PG_SSL_CA: authority.certificate };
    const both = urlAt('localhost').replace(
      `localhost:${server.port}`,
      `127.0.0.1:${server.port},localhost:${server.port}`,
    );
    expect(both).toContain(',localhost');
    expect(await askTls(both, variables)).toBe(true);
    await expect(askTls(both.replace('localhost', '127.0.0.1'), variables)).rejects.toMatchObject({
      code: 'database_unavailable',
    });
  });

  test('any certificate is accepted when LOOM_PG_SSL_REJECT_UNAUTHORIZED is false', async () => {
    const variables = { LOOM_PG_SSL: 'true', LOOM_PG_SSL_REJECT_UNAUTHORIZED: 'false' };
    expect(await askTls(urlAt('localhost'), variables)).toBe(true);
    expect(await askTls(urlAt('127.0.0.1'), { ...variables, LOOM_PG_SSL_CA: stranger.certificate })).toBe(true);
  });

  test('a server without TLS is refused instead of used without encryption, and the log says so', async () => {
    const url = urlAt('localhost', plainServer);
    await expect(askTls(url, { LOOM_PG_SSL: 'true' })).rejects.toMatchObject({ code: 'database_unavailable' });
    await expect(askTls(url, { LOOM_PG_SSL: 'true', LOOM_PG_SSL_REJECT_UNAUTHORIZED: 'false' })).rejects.toMatchObject({
      code: 'database_unavailable',
    });
    expect(await probeLog(url, {})).toContain('the server does not support TLS, but LOOM_PG_SSL is true');
  });
});

describe('with LOOM_PG_SSL=false', () => {
  test('a server that requires TLS refuses, and the log names the variable', async () => {
    await expect(askTls(urlAt('127.0.0.1'), {})).rejects.toMatchObject({ code: 'database_unavailable' });
    expect(await probeLog(urlAt('127.0.0.1'), { LOOM_PG_SSL: 'false' })).toContain(
      'check LOOM_PG_URL, LOOM_PG_SSL and pg_hba.conf',
    );
  });

  test('a server without TLS is used without encryption', async () => {
    expect(await askTls(plainServer.url, {})).toBe(false);
  });
});
