import type { Random } from '../values/random.ts';
import type { Known } from './known.ts';
import { chance, randomBytes } from './odd-values.ts';
import { operations } from './operations.ts';
import { bytesOf, type FuzzRequest, type Tokens, targetOf, validRequest } from './requests.ts';
import type { RawEnd } from './wire.ts';

/** What a client of raw sockets sends on a connection. */
export interface RawCase {
  kind: string;
  pieces: Buffer[];
  pauseMs: number;
  end: RawEnd;
  /** The requests that all get their answers, if the bytes are those of whole requests. */
  whole: { method: string; target: string }[] | undefined;
}

const simple = operations.filter(
  ({ method, path }) =>
    method !== 'HEAD' && (path.startsWith('/v1/documents') || path === '/live' || path === '/ready'),
);

interface Source {
  random: Random;
  known: Known;
  tokens: Tokens;
}

const requestOf = ({ random, known, tokens }: Source): FuzzRequest =>
  validRequest(random.pick(simple), random, known, tokens);

const requestsOf = (source: Source, max: number): FuzzRequest[] =>
  Array.from({ length: source.random.integer(1, max) }, () => requestOf(source));

/** Cuts the bytes at random places. */
function cut(bytes: Buffer, random: Random, count: number): Buffer[] {
  const places = Array.from({ length: count }, () => random.integer(0, bytes.length)).toSorted((a, b) => a - b);
  return [0, ...places].map((place, index) => bytes.subarray(place, [...places, bytes.length][index]));
}

/** Adds a last request, after which the node ends the connection. */
function wholeCase(kind: string, whole: RawCase['whole'], pieces: Buffer[], pauseMs: number): RawCase {
  const last = { method: 'GET', target: '/live' };
  return { kind, pieces: [...pieces, lastLive], pauseMs, end: 'wait', whole: [...(whole ?? []), last] };
}

const placesOf = (requests: FuzzRequest[]) => requests.map((one) => ({ method: one.method, target: targetOf(one) }));

const faulty = (kind: string, bytes: Buffer | string, more: Partial<RawCase> = {}): RawCase => ({
  kind,
  pieces: [typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes],
  pauseMs: 0,
  // Some of these are whole requests, and a node answers only a client that still waits.
  end: 'late half-close',
  whole: undefined,
  ...more,
});

const put = ({ tokens }: Source, headers: string, body: string): string =>
  `PUT /v1/documents/raw HTTP/1.1\r\nhost: x\r\nx-loom-admin-token: ${tokens.admin}\r\n` +
  `content-type: application/json\r\n${headers}\r\n${body}`;

const live = 'GET /live HTTP/1.1\r\nhost: x\r\n\r\n';
const lastLive = Buffer.from('GET /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n');

const chunkFaults = [
  'zz\r\n',
  '-1\r\n1\r\n0\r\n\r\n',
  'ffffffffffffffff\r\n1\r\n',
  'fffffffffffffffff\r\n1\r\n',
  '1;ext=1\r\n1\r\n0\r\n\r\n',
  `1;${'e'.repeat(20_000)}\r\n1\r\n0\r\n\r\n`,
  '1 \r\n1\r\n0\r\n\r\n',
  '0x1\r\n1\r\n0\r\n\r\n',
  '000000000000000000001\r\n1\r\n0\r\n\r\n',
  '1\n1\n0\n\n',
  '1\r\n12\r\n0\r\n\r\n',
  '2\r\n1\r\n0\r\n\r\n',
  '1\r\n10\r\n\r\n',
  '1\r\n1\r\n0\r\nx-loom-admin-token: a\r\n\r\n',
  `1\r\n1\r\n0\r\n${'a: b\r\n'.repeat(3_000)}\r\n`,
  '1\r\n1\r\n0\r\nbad trailer\r\n\r\n',
  '\r\n',
  '1\r\n1\r\n',
  '',
];

const lengthFaults = ['0', '1', '3', '-1', '+1', '1, 1', '1, 2', ' 1', '0x1', '1 1', '1e0', '', '99999999999999999999'];

const startLines = [
  'GET /live HTTP/1.0',
  'GET /live',
  'GET /live HTTP/0.9',
  'GET /live HTTP/1.2',
  'GET /live HTTP/2.0',
  'GET /live HTTP/11',
  'GET /live http/1.1',
  'get /live HTTP/1.1',
  ' GET /live HTTP/1.1',
  'GET  /live HTTP/1.1',
  'GET /live  HTTP/1.1',
  'GET\t/live HTTP/1.1',
  'GET live HTTP/1.1',
  'GET http://y/live HTTP/1.1',
  'GET https://u:p@[::1]:1/live?x HTTP/1.1',
  'GET ftp://x HTTP/1.1',
  'OPTIONS * HTTP/1.1',
  'GET * HTTP/1.1',
  'CONNECT x:443 HTTP/1.1',
  'CONNECT / HTTP/1.1',
  'PRI * HTTP/2.0',
  'BREW /live HTTP/1.1',
  'GET /live? HTTP/1.1',
  'GET /\xff HTTP/1.1',
  'GET /live\0 HTTP/1.1',
  '\r\n\r\nGET /live HTTP/1.1',
];

const headerLines = [
  'connection: keep-alive',
  'connection: close',
  'connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==',
  'connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk',
  'transfer-encoding: identity',
  'transfer-encoding: chunked, chunked',
  'transfer-encoding: gzip, chunked',
  'transfer-encoding : chunked',
  'transfer-encoding: \x0bchunked',
  'host: y',
  'a',
  ': a',
  'a b: c',
  'a: b\r\n c',
  'a: b\nc: d',
  'a: b\rc',
  'a\0: b',
  'a: \x01',
  'x-loom-actor: a\x7f',
  'content-length: 0\r\ncontent-length: 0',
  'expect: 100-continue',
];

/** Each makes one case. */
const makers: Record<string, (source: Source) => RawCase> = {
  split: (source) => {
    const requests = requestsOf(source, 3);
    const bytes = Buffer.concat(requests.map(bytesOf));
    return wholeCase('split', placesOf(requests), cut(bytes, source.random, source.random.integer(1, 8)), 1);
  },
  pipelined: (source) => {
    const requests = requestsOf(source, 40);
    return wholeCase('pipelined', placesOf(requests), [Buffer.concat(requests.map(bytesOf))], 0);
  },
  'byte by byte': (source) => {
    const request = requestOf(source);
    const bytes = bytesOf(request);
    const pieces = [...bytes.subarray(0, 400)].map((byte) => Buffer.from([byte]));
    return wholeCase('byte by byte', placesOf([request]), [...pieces, bytes.subarray(400)], 0);
  },
  'slow body': (source) => {
    const body = JSON.stringify('slow'.repeat(source.random.integer(1, 20)));
    const head = Buffer.from(put(source, `content-length: ${body.length}\r\n`, ''));
    const target = '/v1/documents/raw';
    const pieces = [head, ...cut(Buffer.from(body), source.random, 6)];
    return wholeCase('slow body', [{ method: 'PUT', target }], pieces, 5);
  },
  chunks: (source) =>
    faulty('chunks', put(source, 'transfer-encoding: chunked\r\n', source.random.pick(chunkFaults)) + live),
  length: (source) => {
    const { random } = source;
    const lengths = [random.pick(lengthFaults), ...(chance(random, 0.3) ? [random.pick(lengthFaults)] : [])];
    const coding = chance(random, 0.2) ? 'transfer-encoding: chunked\r\n' : '';
    const lines = lengths.map((length) => `content-length: ${length}\r\n`).join('');
    return faulty('length', put(source, lines + coding, random.pick(['1', '', '1\r\n1\r\n0\r\n\r\n'])) + live);
  },
  flood: ({ random }) => {
    const lines = random.pick([
      'a:\r\n'.repeat(random.pick([197, 198, 199, 200, 201, 1_500])),
      `a: ${'b'.repeat(random.pick([15_000, 16_300, 16_384, 17_000, 300_000]))}\r\n`,
      `${'n'.repeat(random.pick([16_300, 17_000]))}: b\r\n`,
    ]);
    return faulty('flood', `GET /live HTTP/1.1\r\nhost: x\r\n${lines}\r\n${live}`);
  },
  'start line': ({ random }) =>
    faulty('start line', `${random.pick(startLines)}\r\n${chance(random, 0.9) ? 'host: x\r\n' : ''}\r\n${live}`),
  'header line': (source) => {
    const line = `${source.random.pick(headerLines)}\r\n`;
    const bytes = chance(source.random, 0.5)
      ? `GET /live HTTP/1.1\r\nhost: x\r\n${line}\r\n`
      : put(source, `${line}content-length: 1\r\n`, '1');
    return faulty('header line', bytes + live);
  },
  'half-closed': (source) => {
    const bytes = Buffer.concat(requestsOf(source, 3).map(bytesOf));
    const part = bytes.subarray(0, source.random.integer(0, bytes.length));
    return faulty('half-closed', part, { end: 'half-close' });
  },
  disconnect: (source) => {
    const bytes = Buffer.concat(requestsOf(source, 8).map(bytesOf));
    return faulty('disconnect', bytes.subarray(0, source.random.integer(0, bytes.length)), { end: 'disconnect' });
  },
  flips: (source) => {
    const { random } = source;
    let bytes = Buffer.concat(requestsOf(source, 4).map(bytesOf));
    for (let count = random.integer(1, 5); count > 0; count -= 1) {
      const at = random.integer(0, Math.min(bytes.length, 600));
      const more = chance(random, 0.5)
        ? randomBytes(random, 1)
        : Buffer.from(random.pick(['\r', '\n', ' ', '\r\n\r\n', '']));
      bytes = Buffer.concat([bytes.subarray(0, at), more, bytes.subarray(at + random.integer(0, 2))]);
    }
    return faulty('flips', bytes);
  },
  garbage: ({ random }) =>
    faulty('garbage', Buffer.concat([Buffer.from(random.pick(['', '\x16\x03\x01'])), randomBytes(random, 200)])),
};

export function createRawCase(source: Source): RawCase {
  return makers[source.random.pick(Object.keys(makers))]?.(source) ?? faulty('empty', '');
}
