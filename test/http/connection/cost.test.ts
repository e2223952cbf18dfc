import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Store } from '../../../src/domain/store.ts';
import { asAdmin, type BareServer, createBareServer, testConfig } from '../../setup/node/http.ts';
import { openSocket, receive } from '../../setup/node/raw.ts';

/** Size of each input: close to the 16 KiB that a head may have. A quadratic algorithm would take 50 times as long. */
const BYTES = 15_000;
/** Bounds the time of an input, as a multiple of the time of harmless input of the same size. */
const MAX_RATIO = 5;
const ROUNDS = 8;
const REQUESTS_PER_ROUND = 3;

let node: BareServer;
let port: number;
beforeAll(async () => {
  const store = {
    listDocuments: async () => ({ documents: [], next: null, epoch: 'e', revision: 1 }),
    readAudit: async () => ({ entries: [], next: null, head: { seq: 0, hash: '0'.repeat(64) } }),
    readDocument: async () => ({ text: '1', revision: 1, epoch: 'e', updatedAt: '2026-01-01T00:00:00Z' }),
    submitCommit: async () => ({ revision: 1, epoch: 'e', eventId: 'e', created: false, replayed: false }),
  };
  const env = { LOOM_TRUST_PROXY: '32', LOOM_LOG_LEVEL: 'info' };
  node = createBareServer(store as unknown as Store, testConfig('postgres://x@localhost/x', env));
  ({ port } = await node.listen());
  // The first requests include the compilation of the code.
  for (let round = 0; round < 3; round += 1) await costOf(head('/v1/documents/a', token));
});
afterAll(() => node.close({ timeoutMs: 1_000 }));

const token = `x-loom-admin-token: ${asAdmin['x-loom-admin-token']}\r\n`;

/** Repeats a text up to the size of the inputs. */
const fill = (text: string, before = '', after = ''): string =>
  before + text.repeat(Math.floor((BYTES - before.length - after.length) / text.length)) + after;

function head(path: string, headers = '', method = 'GET'): string {
  const plain = headers.toLowerCase();
  return `${method} ${path} HTTP/1.1\r\n${plain.includes('host:') ? '' : 'host: x\r\n'}${headers}\r\n`;
}

/**
 * Returns the processor time of a request in milliseconds: the least of several rounds, because a round can include the
 * collection of garbage. A time of `enough` ends the rounds.
 */
async function costOf(request: string, enough = 0): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS && least > enough; round += 1) {
    let cpuMs = 0;
    for (let index = 0; index < REQUESTS_PER_ROUND; index += 1) {
      const socket = await openSocket(port);
      const closed = receive(socket, () => false);
      const before = process.cpuUsage();
      socket.end(request, 'latin1');
      await closed;
      const { user, system } = process.cpuUsage(before);
      cpuMs += (user + system) / 1_000 / REQUESTS_PER_ROUND;
    }
    least = Math.min(least, cpuMs);
  }
  return least;
}

const queries = {
  'many names': fill('a&'),
  'many separators': fill('&'),
  'many equals signs': fill('='),
  'many pairs': fill('a=1&'),
  'many blanks': fill('+'),
  'many escapes': fill('%41'),
  'many broken escapes': fill('%zz&'),
  'one long broken escape': fill('%C3%A9', 'a=', '%'),
  'a long name of separators': fill('-', 'x-', 'token='),
  'many names of tokens': fill('token&'),
  'many token-like values': fill('a=aaaaaaaaaaaaaaaaaaaaaaaaaaaa&'),
};

const paths = {
  'many slashes': fill('/'),
  'many dots': fill('/..'),
  'many escapes of %': fill('%25', '/v1/documents/'),
  'many escapes of /': fill('%2F', '/v1/documents/'),
  'many segments of a document': fill('a/', '/v1/documents/'),
  'many characters': fill('%C3%A9', '/v1/documents/'),
  'broken escapes': fill('%zz', '/'),
  'a long authority': fill('a', 'http://', '/live'),
};

const lists = [
  fill(','),
  fill(' '),
  fill(', '),
  fill(' ,', '"a"', 'x'),
  fill('"a",'),
  fill('"'),
  fill('W/'),
  fill('""'),
];
/** For headers that only Node reads. */
const fewLists = [fill(','), fill(' ')];
const headers = {
  'if-match': [...lists, fill('"a" ')],
  'if-none-match': [...lists, fill('W/"a",')],
  accept: [
    ...lists,
    fill(';'),
    fill('a;q=0,'),
    fill('application/x-ndjson;q=0.0,'),
    fill('q=0;', 'application/x-ndjson;'),
  ],
  'accept-encoding': [...lists, fill(';'), fill('gzip;q=0,')],
  'content-type': [...lists, fill(';'), fill('; ', 'application/json;'), fill('charset=', 'application/json;')],
  'content-encoding': [...lists, fill(' ', 'gzip', 'x'), fill('gzip,')],
  authorization: [...lists, fill(' ', 'bearer ', 'x'), fill('bearer ')],
  'x-loom-admin-token': [...lists, fill(' ', 'a', 'b')],
  'x-request-id': [...lists, fill('a'), fill('!')],
  'idempotency-key': [...lists, fill('a')],
  'x-forwarded-for': [...lists, fill('1.1.1.1,'), fill(':'), fill('['), fill('::1,')],
  cookie: [...fewLists, fill('a=b; ')],
  expect: [...fewLists, fill('100-continue '), fill('100-')],
  host: [...fewLists, fill(':')],
  range: [...fewLists, fill('bytes=0-,')],
  prefer: fewLists,
  connection: [...fewLists, fill('close,'), fill('keep-alive, ')],
  te: [...fewLists, fill('chunk')],
  'if-modified-since': fewLists,
};

const repeated = [
  'a:',
  'x-loom-admin-token: a',
  'authorization: Bearer a',
  'if-match: "a"',
  'cookie: a',
  'accept: a',
  'host: x',
  'x-forwarded-for: a',
  'set-cookie: a',
];

type Case = [what: string, request: string];

/** Compares each input with harmless input of the same size, for the same route. */
async function ratiosOf(harmless: string, cases: Case[]): Promise<string[]> {
  const base = await costOf(harmless);
  const slow: string[] = [];
  for (const [what, request] of cases) {
    const ratio = (await costOf(request, (base * MAX_RATIO) / 2)) / base;
    if (ratio > MAX_RATIO) slow.push(`${what}: ${ratio.toFixed(1)} times`);
  }
  return slow;
}

/** Returns a request that makes the node read this header. */
function routeThatReads(header: string): { path: string; method: string; access: string; length: string } {
  const access = header === 'authorization' || header === 'x-loom-admin-token' ? '' : token;
  if (header === 'accept') return { path: '/v1/audit', method: 'GET', access, length: '' };
  const isOfBody = header.startsWith('content-') || header === 'idempotency-key';
  const length = isOfBody ? 'content-length: 0\r\n' : '';
  return { path: '/v1/documents/a', method: isOfBody ? 'PUT' : 'GET', access, length };
}

describe('input of the maximum size costs at most 5 times as much as harmless input of that size', () => {
  test.each([
    ['without a token', '/live', ''],
    ['on an unknown path', '/nowhere', ''],
    ['with a token', '/v1/documents', token],
    ['of an audit query', '/v1/audit', token],
  ])(
    'in a query %s',
    async (_what, path, access) => {
      const cases = Object.entries(queries).map(([what, query]): Case => [what, head(`${path}?${query}`, access)]);
      expect(await ratiosOf(head(`${path}?${fill('a', 'a=')}`, access), cases)).toEqual([]);
    },
    60_000,
  );

  test('in a path', async () => {
    const cases = Object.entries(paths).map(([what, path]): Case => [what, head(path, token)]);
    expect(await ratiosOf(head(fill('a', '/')), cases)).toEqual([]);
  }, 60_000);

  test.each(Object.entries(headers))(
    'in the header %s',
    async (name, values) => {
      const { path, method, access, length } = routeThatReads(name);
      const cases = values.map((value): Case => {
        const what = value.slice(0, 20);
        return [what, head(path, `${access}${length}${name}: ${value}\r\n`, method)];
      });
      expect(await ratiosOf(head(path, `${access}${length}x-other: ${fill('a')}\r\n`, method), cases)).toEqual([]);
    },
    60_000,
  );

  test('in thousands of headers', async () => {
    const cases = repeated.map((line): Case => [line, head('/v1/documents/a', fill(`${line}\r\n`, token))]);
    expect(await ratiosOf(head('/v1/documents/a', `${token}x-other: ${fill('a')}\r\n`), cases)).toEqual([]);
  }, 60_000);
});
