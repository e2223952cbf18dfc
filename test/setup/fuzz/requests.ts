import { gzipSync } from 'node:zlib';
import { treeOf } from '../backup/json-tree.ts';
import type { Random } from '../values/random.ts';
import { encodeBody, printFreely, spoilBytes, spoilTree, valueFor } from './bodies.ts';
import { oddHeader } from './headers.ts';
import { type Known, knownParameter } from './known.ts';
import { chance, oddParameter, oddTexts, percentEncode, randomWord, toBytesText } from './odd-values.ts';
import { type Operation, operations, type Parameter } from './operations.ts';

/** Names the tokens of the node that a request can have. */
export interface Tokens {
  admin: string;
  client: string;
}

/** A request as it is sent. Each character of a text is one byte. */
export interface FuzzRequest {
  operation: Operation;
  method: string;
  path: string;
  /** Without `?`; undefined for none. */
  query: string | undefined;
  headers: [name: string, value: string][];
  body: Buffer | undefined;
  isChunked: boolean;
  /** Says what was changed in a valid request. */
  changes: string[];
}

/** Bounds the body of documents, which the generator meets on purpose. */
export interface RequestBounds {
  maxDocumentBytes: number;
}

export function pickOperation(random: Random): Operation {
  const operation = random.pick(operations);
  // HEAD is GET, and a body has the most to spoil.
  if (operation.method === 'HEAD' && chance(random, 0.6)) return pickOperation(random);
  return operation.body === undefined && chance(random, 0.4) ? pickOperation(random) : operation;
}

/** Makes a request that the description allows. Whether it succeeds depends on the state. */
export function validRequest(operation: Operation, random: Random, known: Known, tokens: Tokens): FuzzRequest {
  const { method, parameters, token } = operation;
  const path = operation.path.replace(/\{(\w+)\}/g, (_, name: string) =>
    percentEncode(knownParameter(known, name, operation.path, random) ?? randomWord(random)),
  );
  const query = parameters
    .filter((one) => one.in === 'query' && chance(random, 0.25))
    .map((one) => `${one.name}=${percentEncode(plainParameter(one, operation.path, random, known))}`);
  const headers = parameters
    .filter((one) => one.in === 'header' && one.name !== 'content-encoding' && chance(random, 0.15))
    .map((one): [string, string] => [one.name, plainParameter(one, operation.path, random, known)]);
  const request: FuzzRequest = {
    operation,
    method,
    path,
    query: query.length === 0 ? undefined : query.join('&'),
    headers: [...tokenHeaders(token, random, tokens), ...headers],
    body: undefined,
    isChunked: false,
    changes: [],
  };
  return operation.body === undefined ? request : withBody(request, operation.body, random, known);
}

function tokenHeaders(kind: Operation['token'], random: Random, tokens: Tokens): [string, string][] {
  if (kind === 'none') return [];
  const token = kind === 'client' && chance(random, 0.5) ? tokens.client : tokens.admin;
  return chance(random, 0.5) ? [['x-loom-admin-token', token]] : [['authorization', `Bearer ${token}`]];
}

function plainParameter(parameter: Parameter, path: string, random: Random, known: Known): string {
  const { examples = [], default: fallback, enum: choices = [], type, minimum = 0 } = parameter.schema;
  const found = chance(random, 0.6) ? knownParameter(known, parameter.name, path, random) : undefined;
  if (found !== undefined) return found;
  if (parameter.name === 'idempotency-key') return remembered(known.keys, randomWord(random));
  if (type === 'integer') return String(minimum + random.integer(0, 9));
  return String(random.pick([...examples, ...choices, ...(fallback === undefined ? [] : [fallback])]));
}

function remembered(list: string[], value: string): string {
  list.push(value);
  if (list.length > 12) list.shift();
  return value;
}

function withBody(
  request: FuzzRequest,
  { mediaTypes, schema, examples }: NonNullable<Operation['body']>,
  random: Random,
  known: Known,
): FuzzRequest {
  const value = chance(random, 0.2) ? random.pick(examples) : valueFor(schema, random, known);
  const isPacked = chance(random, 0.1);
  const bytes = Buffer.from(JSON.stringify(value));
  return {
    ...request,
    headers: [
      ...request.headers,
      ['content-type', random.pick(mediaTypes)],
      ...(isPacked ? [['content-encoding', 'gzip'] as [string, string]] : []),
    ],
    body: isPacked ? gzipSync(bytes) : bytes,
    isChunked: chance(random, 0.2),
  };
}

type Change = (request: FuzzRequest, random: Random, known: Known, more: Tokens & RequestBounds) => string;

/** Each changes a request, and says how. */
const changes: Record<string, Change> = {
  path: (request, random) => {
    const odd = random.pick(oddTexts);
    const encoded = random.pick([percentEncode(odd), percentEncode(percentEncode(odd)), encodeURI(wellFormed(odd))]);
    // An earlier change may have made it "*".
    const parts = request.path.replace(/^(?!\/)/, '/').split('/');
    const at = random.integer(1, parts.length - 1);
    const choices: (() => string)[] = [
      () => parts.with(at, encoded).join('/'),
      () => parts.with(at, encoded).join('/'),
      () => parts.with(-1, encoded).join('/'),
      () =>
        parts.with(at, random.pick(['%', '%z0', '%ff', '%C0%80', '%ED%A0%80', '%E2%82', '%00', '%2e%2e'])).join('/'),
      () => parts.with(at, parts[at]?.toUpperCase() ?? '').join('/'),
      () => parts.toSpliced(at, 0, random.pick(['', '.', '..', encoded])).join('/'),
      () => parts.toSpliced(at, 1).join('/') || '/',
      () => `${request.path}${random.pick(['/', ';a=b', '%20', '/history', '#a', '%23', '.json', '\\', '%5C'])}`,
      () => `${random.pick(['http://x', 'https://u:p@x:1', '//x', 'HTTP://[::1]'])}${request.path}`,
      () => parts.with(-1, 'a'.repeat(random.pick([8_191, 8_192, 8_193, 15_000, 17_000]))).join('/'),
      () => random.pick(['*', '/', '//', '/v1', '/%', '/v1/documents/', '/.', '/favicon.ico']),
    ];
    request.path = random.pick(choices)();
    return request.path.slice(0, 80);
  },
  query: (request, random, _known, tokens) => {
    const own = request.operation.parameters.filter((one) => one.in === 'query');
    const parameter = own.length === 0 ? undefined : random.pick(own);
    const odd = percentEncode(random.pick(oddTexts));
    const name = parameter?.name ?? random.pick(['limit', 'after', 'x']);
    const bound = (): string => `${name}=${percentEncode(oddParameter(random, parameter?.schema ?? {}))}`;
    const choices: (() => string)[] = [
      bound,
      bound,
      bound,
      () => `${bound()}&${bound()}`,
      () => `${name}=${percentEncode('a')}&${name}=1`,
      () => `${name}[]=1`,
      () => `${name}`,
      () => `${name}=`,
      () => `=${odd}`,
      () => `${odd}=1`,
      () => `${name}=${random.pick(['%', '%z', '%ff', '%C0%80', 'a+b', 'a%2Bb', '1;2', '1,2', '?', '/', '#'])}`,
      () => '&'.repeat(random.pick([1, 31, 32, 33, 500])),
      () => Array.from({ length: random.pick([31, 32, 33, 40]) }, (_, index) => `p${index}=1`).join('&'),
      () => random.pick([`token=1`, `x=${tokens.admin}`, `api_key=a`, `Access-Token=`, `x=Bearer%20${tokens.client}`]),
      () => `${name}=${'a'.repeat(random.pick([511, 513, 9_000, 17_000]))}`,
    ];
    const text = random.pick(choices)();
    request.query = request.query === undefined || chance(random, 0.5) ? text : `${request.query}&${text}`;
    return text.slice(0, 80);
  },
  header: (request, random, known, tokens) => {
    const [name, value] = oddHeader(random, known, tokens);
    if (chance(random, 0.7)) request.headers = request.headers.filter(([one]) => one !== name.toLowerCase());
    const at = random.integer(0, request.headers.length);
    request.headers = request.headers.toSpliced(at, 0, [name, value]);
    return `${name}: ${value.slice(0, 60)}`;
  },
  token: (request, random, _known, { admin, client }) => {
    request.headers = request.headers.filter(([name]) => name !== 'authorization' && name !== 'x-loom-admin-token');
    const added = random.pick<[string, string][]>([
      [],
      [],
      [['x-loom-admin-token', client]],
      [['authorization', `bearer ${client}`]],
      [['authorization', `Basic ${client}`]],
      [['authorization', 'Bearer']],
      [['authorization', `Bearer ${admin}, Bearer ${client}`]],
      [['authorization', `Bearer  ${admin} `]],
      [
        ['authorization', `Bearer ${client}`],
        ['x-loom-admin-token', admin],
      ],
      [
        ['x-loom-admin-token', admin],
        ['x-loom-admin-token', admin],
      ],
      [['x-loom-admin-token', `${admin.slice(0, -1)}~`]],
      [['x-loom-admin-token', toBytesText(random.pick(['', 'é', ' ', '\u2028', '😀']))]],
      [['x-loom-admin-token', 'a'.repeat(random.pick([1_024, 1_025, 15_000]))]],
    ]);
    request.headers.push(...added);
    return added.map(([name, value]) => `${name}: ${value.slice(0, 30)}`).join();
  },
  method: (request, random) => {
    request.method = random.pick(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND']);
    return request.method;
  },
  body: (request, random, known, { maxDocumentBytes }) => {
    const schema = request.operation.body?.schema;
    const plain = schema === undefined ? {} : valueFor(schema, random, known);
    let bytes: Buffer = Buffer.from(JSON.stringify(plain) ?? 'null');
    const choices: Record<string, () => void> = {
      tree: () => {
        let tree = treeOf(plain);
        for (let count = random.integer(1, 3); count > 0; count -= 1) tree = spoilTree(tree, random);
        bytes = Buffer.from(printFreely(tree, random));
      },
      bytes: () => {
        bytes = spoilBytes(bytes, random);
      },
      size: () => {
        // A string has two quotes.
        const length = maxDocumentBytes - 2 + random.pick([-1, 0, 1, 1, maxDocumentBytes]);
        const text = JSON.stringify(random.pick(['a', '"', '\u0001']).repeat(length).slice(0, length));
        bytes = Buffer.from(request.path.endsWith('/state') ? `{"large":${text}}` : text);
      },
    };
    const kind = random.pick(['tree', 'tree', 'tree', 'tree', 'bytes', 'bytes', 'size']);
    choices[kind]?.();
    request.headers = request.headers.filter(([name]) => name !== 'content-encoding');
    request.body = bytes;
    return kind;
  },
  encoding: (request, random) => {
    const { bytes, encoding } = encodeBody(request.body ?? Buffer.from('{}'), random);
    request.headers = request.headers.filter(([name]) => name !== 'content-encoding');
    if (encoding !== undefined) request.headers.push(['content-encoding', encoding]);
    request.body = bytes;
    return String(encoding);
  },
  'without a body': (request) => {
    request.body = undefined;
    return '';
  },
};

/** Makes a request of the description, and changes none to three things in it. */
export function createRequest(random: Random, known: Known, more: Tokens & RequestBounds): FuzzRequest {
  const request = validRequest(pickOperation(random), random, known, more);
  const count = random.pick([0, 0, 0, 1, 1, 1, 1, 1, 2, 3]);
  const hasBody = request.body !== undefined;
  const kinds = ['path', 'query', 'header', 'header', 'token', 'method', ...(hasBody ? bodyKinds : ['body'])];
  for (let index = 0; index < count; index += 1) {
    const kind = random.pick(kinds);
    request.changes.push(`${kind} ${changes[kind]?.(request, random, known, more) ?? ''}`);
  }
  return request;
}

const bodyKinds = ['body', 'body', 'body', 'body', 'encoding', 'encoding', 'without a body'];

/** Returns the request target. */
export function targetOf({ path, query }: FuzzRequest): string {
  return query === undefined ? path : `${path}?${query}`;
}

/** Returns the bytes of the whole request. */
export function bytesOf(request: FuzzRequest): Buffer {
  const { method, headers, body, isChunked } = request;
  const framing: [string, string][] =
    body === undefined ? [] : [isChunked ? ['transfer-encoding', 'chunked'] : ['content-length', String(body.length)]];
  const lines = [['host', 'x'], ...headers, ...framing].map(([name, value]) => `${name}: ${value}\r\n`);
  const head = Buffer.from(`${method} ${targetOf(request)} HTTP/1.1\r\n${lines.join('')}\r\n`, 'latin1');
  return body === undefined ? head : Buffer.concat([head, isChunked ? toChunks(body) : body]);
}

/** Sends the body in two chunks, or in one. */
export function toChunks(body: Buffer): Buffer {
  const middle = body.length >> 1;
  const chunks = [body.subarray(0, middle), body.subarray(middle)].filter((chunk) => chunk.length > 0);
  const parts = chunks.flatMap((chunk) => [
    Buffer.from(`${chunk.length.toString(16)}\r\n`),
    chunk,
    Buffer.from('\r\n'),
  ]);
  return Buffer.concat([...parts, Buffer.from('0\r\n\r\n')]);
}

function wellFormed(text: string): string {
  return text.isWellFormed() ? text : 'a';
}
