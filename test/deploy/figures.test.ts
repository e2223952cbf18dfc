import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../src/config/config.ts';
import { limits } from '../../src/limits.ts';
import { numberIn, readDeployFile, serviceEnvironment } from '../setup/deploy/files.ts';

const MiB = 2 ** 20;

/** What a node adds to its timeouts before it ends: docs/deploy.md promises at most this. */
const lastMs = 1_000;

function configOf(environment: Record<string, string>): ReturnType<typeof parseConfig> {
  const secrets: Record<string, string> = { pg_url: 'postgres://loom@127.0.0.1/loom' };
  const readFile = (path: string): string => secrets[path.split('/').at(-1) ?? ''] ?? `a-token-for-${path}`;
  return parseConfig(environment, { readFile });
}

const service = readDeployFile('loom@.service');
const node = configOf(serviceEnvironment(8787));
const { delayMs, timeoutMs } = node.shutdown;

describe('loom@.service', () => {
  test('sets variables that a node accepts, for the port of its instance', () => {
    expect(node.http.port).toBe(8787);
    expect([delayMs, timeoutMs]).toEqual([5_000, 30_000]);
  });

  test('waits until a node has ended by itself, and does not restart one with a wrong configuration', () => {
    expect(numberIn(service, /^TimeoutStopSec=(\d+)s$/) * 1_000).toBeGreaterThan(delayMs + timeoutMs + lastMs);
    expect(service).toMatch(/^RestartPreventExitStatus=64 78$/m);
  });

  test('has room for the connections and the memory of a node', () => {
    const { maxConnections, reservedFiles, maxProbeConnections } = limits;
    const files = maxConnections + reservedFiles + maxProbeConnections + node.postgres.poolMax;
    expect(numberIn(service, /^LimitNOFILE=(\d+)$/)).toBeGreaterThan(files);
    const heapMiB = numberIn(service, /--max-old-space-size=(\d+)/);
    expect(heapMiB).toBeGreaterThan((limits.maxBodiesBytes + limits.maxAnswersBytes) / MiB + 60);
    expect(numberIn(service, /^MemoryMax=(\d+)M$/)).toBe(2 * heapMiB);
  });
});

describe('nginx.conf', () => {
  const file = readDeployFile('nginx.conf');
  const secondsOf = (directive: string): number => numberIn(file, new RegExp(`^ +${directive} (\\d+)s;$`));

  test('closes its idle connections before the nodes do', () => {
    expect(secondsOf('keepalive_timeout') * 1_000).toBeLessThan(Math.min(delayMs, limits.keepAliveTimeoutMs));
  });

  test('accepts every body that a node accepts', () => {
    const longest = limits.maxStateBodyBytes * limits.maxRawBodyFactor + limits.rawBodySlackBytes;
    expect(numberIn(file, /^ +client_max_body_size (\d+)m;$/)).toBe(Math.ceil(longest / MiB));
    expect(limits.maxConfigurableDocumentBytes).toBeLessThanOrEqual(limits.maxStateBodyBytes);
    expect(file).toMatch(/location \/v1\/admin\/persistence\/ \{[^}]*client_max_body_size 0;/);
  });

  test('waits as long as the nodes and the client commands do', () => {
    expect(secondsOf('proxy_read_timeout') * 1_000).toBe(limits.clientIdleTimeoutMs);
    expect(secondsOf('proxy_send_timeout') * 1_000).toBeGreaterThan(limits.operationIdleTimeoutMs);
    expect(secondsOf('client_header_timeout') * 1_000).toBe(limits.headersTimeoutMs);
    expect(secondsOf('client_body_timeout') * 1_000).toBeGreaterThan(limits.clientPaceWindowMs);
    expect(secondsOf('send_timeout') * 1_000).toBeGreaterThanOrEqual(limits.readerIdleTimeoutMs);
  });

  test('does not leave out a node that is busy', () => {
    expect(file.match(/^ +server 127\.0\.0\.1:\d+ max_fails=0;$/gm)).toHaveLength(2);
  });
});

describe('haproxy.cfg', () => {
  const file = readDeployFile('haproxy.cfg');
  const secondsOf = (name: string): number => numberIn(file, new RegExp(`^  timeout ${name} (\\d+)s$`));

  test('stops sending before the delay is over', () => {
    const [, interval, fall] = /inter (\d+)s fall (\d+)/.exec(file) ?? [];
    expect((Number(interval) * Number(fall) + secondsOf('check')) * 1_000).toBeLessThan(delayMs);
    expect(numberIn(file, /pool-purge-delay (\d+)s/) * 1_000).toBeLessThan(delayMs);
    expect(secondsOf('check') * 1_000).toBeGreaterThan(limits.observeTimeoutMs);
  });

  test('accepts every head that a node accepts', () => {
    expect(numberIn(file, /^ {2}tune.http.maxhdr (\d+)$/)).toBeGreaterThan(limits.maxRequestHeaders);
    expect(numberIn(file, /^ {2}tune.bufsize (\d+)$/)).toBeGreaterThanOrEqual(2 * 16 * 1024);
  });

  test('waits as long as the nodes and the client commands do', () => {
    expect(secondsOf('server') * 1_000).toBe(limits.clientIdleTimeoutMs);
    expect(secondsOf('client') * 1_000).toBeGreaterThanOrEqual(limits.readerIdleTimeoutMs);
    expect(secondsOf('http-request') * 1_000).toBe(limits.headersTimeoutMs);
    expect(secondsOf('http-keep-alive') * 1_000).toBeLessThan(limits.keepAliveTimeoutMs);
  });
});

describe('pgbouncer.ini', () => {
  const file = readDeployFile('pgbouncer.ini');
  const settingOf = (name: string): number => numberIn(file, new RegExp(`^${name} = (\\d+)$`));
  const { poolMax, streamsMax, connectTimeoutMs } = node.postgres;

  test('has connections for two nodes, and for four during a restart', () => {
    expect(settingOf('default_pool_size')).toBeGreaterThanOrEqual(2 * streamsMax + 2);
    expect(settingOf('max_client_conn')).toBeGreaterThanOrEqual(4 * (poolMax + 1));
  });

  test('interrupts no restore', () => {
    for (const name of ['query_timeout', 'idle_transaction_timeout', 'client_idle_timeout'])
      expect(settingOf(name)).toBe(0);
    expect(file).toMatch(/^pool_mode = transaction$/m);
  });

  test('waits as long as the nodes do', () => {
    expect(settingOf('query_wait_timeout') * 1_000).toBe(limits.commitTimeoutMs);
    expect(settingOf('server_connect_timeout') * 1_000).toBe(connectTimeoutMs);
    expect(settingOf('server_login_retry') * 1_000).toBeLessThan(5_000);
    expect(settingOf('tcp_keepidle') * 1_000).toBe(limits.keepAliveDelayMs);
  });
});

describe('docs/deploy.md', () => {
  const page = readDeployFile('../deploy.md').replace(/\s+/g, ' ');
  const longest = Math.ceil((limits.maxStateBodyBytes * limits.maxRawBodyFactor + limits.rawBodySlackBytes) / MiB);

  test.each([
    `never later than the node's ${limits.keepAliveTimeoutMs / 1_000} s`,
    `40 s > ${delayMs / 1_000} s + ${timeoutMs / 1_000} s + ${lastMs / 1_000} s`,
    `the proxy's wait for an answer | above the time of the longest check of a restore | ${limits.clientIdleTimeoutMs / 1_000} s`,
    `above the ${limits.readerIdleTimeoutMs / 1_000} s after which a node closes the connection of a reader`,
    `${limits.maxStateBodyBytes / MiB} MiB of canonical text, which has up to ${longest} MiB`,
    `16 KiB and ${limits.maxRequestHeaders} headers`,
    `\`LOOM_MAX_CONNECTIONS\`, ${limits.maxConnections.toLocaleString('en')} by default`,
    `reserves ${limits.lastAnswerMs} ms of the timeout for each open request`,
  ])('states the figure: %s', (words) => {
    expect(page).toContain(words);
  });

  test('lets Docker wait until a node with the defaults has ended by itself', () => {
    const [, seconds] = /--stop-timeout (\d+) /.exec(page) ?? [];
    const { shutdown } = configOf({ LOOM_PG_URL_FILE: 'pg_url', LOOM_ADMIN_TOKEN_FILE: 'admin_token' });
    expect(Number(seconds) * 1_000).toBeGreaterThan(shutdown.delayMs + shutdown.timeoutMs + lastMs);
  });
});
