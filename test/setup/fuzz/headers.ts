import type { Random } from '../values/random.ts';
import type { Known } from './known.ts';
import { chance, oddTexts, randomWord, toBytesText } from './odd-values.ts';

type MakeValue = (random: Random, known: Known, tokens: { admin: string; client: string }) => string;

const entityTags: MakeValue = (random, { etags }) => {
  const tag = random.pick(etags);
  return random.pick([
    tag,
    `W/${tag}`,
    '*',
    ' * ',
    '*, *',
    `*, ${tag}`,
    `${tag}, W/"x", ,, "y"`,
    `${tag} ${tag}`,
    tag.replaceAll('"', ''),
    tag.replace('.', '.0'),
    '""',
    '"',
    '"a',
    "'a'",
    ',',
    ', , ,',
    '"é\xff"',
    'w/"a"',
    `"${'a'.repeat(9_000)}"`,
    `${'"a",'.repeat(1_500)}${tag}`,
    `"${randomWord(random)}.9007199254740993"`,
  ]);
};

const oddText: MakeValue = (random) => toBytesText(random.pick(oddTexts).replaceAll(/[\r\n]/g, ' '));

const types = [
  'application/json',
  'application/json; charset=utf-8',
  'application/json;charset=UTF-16',
  'application/json ; charset="utf-8"',
  'APPLICATION/JSON',
  'application/merge-patch+json',
  'application/json, application/json',
  'application/problem+json',
  'application/json-patch+json',
  'text/plain',
  'text/json',
  'multipart/form-data; boundary=x',
  'application/x-www-form-urlencoded',
  'application/octet-stream',
  'application/json;',
  'application/json;=',
  'application',
  '/',
  '*/*',
  '',
];

/** Maps headers to functions that make their odd values. */
const makers: Record<string, MakeValue> = {
  'if-match': entityTags,
  'if-none-match': entityTags,
  'if-modified-since': (random) => random.pick(['Thu, 26 Nov 2026 00:00:00 GMT', '0', 'x']),
  'idempotency-key': (random, { keys }) =>
    random.pick([
      random.pick(keys),
      'k'.repeat(255),
      'k'.repeat(256),
      '',
      'a b',
      'é',
      '"',
      '~',
      oddText(random, empty, none),
    ]),
  'x-loom-actor': (random, _known, { client }) =>
    random.pick([
      oddText(random, empty, none),
      'a'.repeat(128),
      'a'.repeat(129),
      toBytesText('😀'.repeat(128)),
      toBytesText('😀'.repeat(129)),
      // A node refuses it with either token. It does not tell a client what other tokens it has.
      client,
      '\xff',
      '\xed\xa0\x80',
      toBytesText('Zoë Example'),
      '\x85',
      '<script>',
    ]),
  'x-request-id': (random) =>
    random.pick(['a', 'a'.repeat(128), 'a'.repeat(129), '', 'a b', '"', '\\', 'é', randomWord(random), '\x7f', '{}']),
  'content-type': (random) => random.pick(types),
  accept: (random) =>
    random.pick([
      'application/x-ndjson',
      'application/x-ndjson;q=0',
      'application/json, application/x-ndjson;q=0.9',
      '*/*',
      'text/html',
      '',
      'application/x-ndjson;q=nan',
      'a,'.repeat(100),
      'APPLICATION/X-NDJSON',
    ]),
  'accept-encoding': (random) =>
    random.pick(['gzip', 'gzip;q=0', 'identity;q=0', '*', '*;q=0', 'br, gzip;q=0.1', '', 'GZIP', 'gzip;q=2', ',,,']),
  'content-encoding': (random) => random.pick(['gzip', 'br', 'identity', '', 'gzip, identity', 'x']),
  expect: (random) => random.pick(['100-continue', '100-Continue', '', 'other', '100-continue, x']),
  connection: (random) => random.pick(['close', 'keep-alive', 'Close, x', 'upgrade', 'te', '', 'content-length']),
  upgrade: (random) => random.pick(['websocket', 'h2c', 'HTTP/2.0']),
  range: (random) => random.pick(['bytes=0-1', 'bytes=-1', 'bytes=0-0,5-9', 'x']),
  te: () => 'trailers, deflate',
  trailer: () => 'x-loom-admin-token',
  cookie: (random) => random.pick(['a=b', 'token=x', '='.repeat(4_000)]),
  origin: () => 'https://example.com',
  'x-http-method-override': () => 'DELETE',
  'x-forwarded-for': (random) => random.pick(['1.2.3.4', '::1, x, 1.2.3.4:5', '"', 'a,'.repeat(40), '[::1]:80', '']),
  forwarded: (random) => random.pick(['for=1.2.3.4', 'for="[::1]:1";proto=https', 'for=_x, for=unknown', ';;,,=', '"']),
  host: (random) => random.pick(['', 'x:y', 'a b', '[::1]', 'x']),
};

/** Words of an empty memory, for makers that need none. */
const empty: Known = {
  names: [],
  etags: [],
  eventIds: [],
  scratchKeys: [],
  backups: [],
  storedNames: [],
  runIds: [],
  numbers: [],
  cursors: [],
  keys: [],
};
const none = { admin: '', client: '' };

/** Returns a header with a value at or beyond its bounds, or a header of any name. Its bytes may break HTTP. */
export function oddHeader(
  random: Random,
  known: Known,
  tokens: { admin: string; client: string },
): [name: string, value: string] {
  if (chance(random, 0.05)) return [randomWord(random), oddText(random, known, tokens)];
  if (chance(random, 0.03)) return [random.pick(['x-a', 'x'.repeat(8_000)]), 'a'.repeat(random.pick([8_000, 16_500]))];
  const name = random.pick(Object.keys(makers));
  const value = makers[name]?.(random, known, tokens) ?? '';
  return [chance(random, 0.1) ? name.toUpperCase() : name, value];
}
