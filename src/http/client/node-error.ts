import { codeOf, type ErrorPlace } from '../../errors.ts';

/**
 * Reports why a request to a node failed. `code` comes from the node's answer (docs/errors.md) or is one of the
 * client's own: `unreachable`, `connection_cut`, `timeout`, `interrupted`, `unexpected_answer`, `instance_mismatch`.
 */
export class NodeError extends Error {
  readonly code: string;
  readonly place: ErrorPlace;
  /** Status of the answer; undefined without an answer. */
  readonly status: number | undefined;
  readonly requestId: string | undefined;

  constructor(code: string, message: string, { place = {}, status, requestId, cause }: NodeErrorOptions = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'NodeError';
    this.code = code;
    this.place = place;
    this.status = status;
    this.requestId = requestId;
  }
}

interface NodeErrorOptions {
  place?: ErrorPlace;
  status?: number | undefined;
  requestId?: string | undefined;
  cause?: unknown;
}

/** Reads the body of a refusal. Returns undefined unless it is a problem (RFC 9457) with a code. */
export function readProblem(status: number, text: string): NodeError | undefined {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return undefined;
  }
  const code = textOf(body, 'code');
  if (code === undefined || !/^[a-z_]{1,64}$/.test(code)) return undefined;
  return new NodeError(code, textOf(body, 'detail') ?? 'The node gave no detail.', {
    status,
    requestId: textOf(body, 'request_id'),
    place: readPlace(body),
  });
}

function readPlace(body: unknown): ErrorPlace {
  const members = Object.entries(placeTypes).map(([name, type]) => ({ name, type, value: memberOf(body, name) }));
  const known = members.filter(({ type, value }) => typeof value === type);
  return Object.fromEntries(known.map(({ name, value }) => [name, value]));
}

const placeTypes = { pointer: 'string', offset: 'number', document: 'string', seq: 'number' } as const;

function textOf(body: unknown, name: string): string | undefined {
  const value = memberOf(body, name);
  return typeof value === 'string' ? value : undefined;
}

function memberOf(body: unknown, name: string): unknown {
  return Reflect.get(Object(body), name);
}

type Fault = [code: string, message: string];

const CUT: Fault = [
  'connection_cut',
  'The connection was closed before the answer was complete. A proxy in between may limit the time or the size of a request.',
];
const NOT_HTTP: Fault = [
  'unexpected_answer',
  'The program at this address does not speak HTTP. If it speaks TLS, use https:// in the URL.',
];
const NO_TLS: Fault = [
  'unreachable',
  'The program at this address does not speak TLS. If it is a node without TLS, use http:// in the URL.',
];
const NO_ROUTE: Fault = ['unreachable', 'There is no route to the host. Check the address and the network.'];
const NOT_TRUSTED: Fault = [
  'unreachable',
  'The certificate is not trusted, because it is self-signed or its authority is unknown. Set NODE_EXTRA_CA_CERTS to the ' +
    'path of a PEM file with the certificate of the authority, or with the self-signed certificate.',
];
const OUT_OF_TIME: Fault = [
  'unreachable',
  'The certificate has expired or is not valid yet. Renew it, and check the clock of this machine.',
];

/** Maps error codes of Node and undici to faults. */
const faults: Record<string, Fault> = {
  ECONNREFUSED: ['unreachable', 'The connection was refused: no program listens on this port.'],
  ENOTFOUND: ['unreachable', 'The host name does not exist.'],
  EAI_AGAIN: ['unreachable', 'The host name could not be resolved. Try again.'],
  EHOSTUNREACH: NO_ROUTE,
  ENETUNREACH: NO_ROUTE,
  ETIMEDOUT: ['unreachable', 'The host did not answer in time.'],
  UND_ERR_CONNECT_TIMEOUT: ['unreachable', 'The connection could not be opened in time.'],
  UND_ERR_HEADERS_TIMEOUT: ['timeout', 'The answer did not arrive in time.'],
  UND_ERR_BODY_TIMEOUT: ['timeout', 'The rest of the answer did not arrive in time.'],
  UND_ERR_SOCKET: CUT,
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: ['connection_cut', 'The length of the answer differs from its content-length.'],
  ECONNRESET: CUT,
  EPIPE: [
    'connection_cut',
    'The connection was closed before the request was complete. A proxy in between may limit the size of a request.',
  ],
  DEPTH_ZERO_SELF_SIGNED_CERT: NOT_TRUSTED,
  SELF_SIGNED_CERT_IN_CHAIN: NOT_TRUSTED,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: NOT_TRUSTED,
  UNABLE_TO_GET_ISSUER_CERT: NOT_TRUSTED,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: NOT_TRUSTED,
  CERT_UNTRUSTED: NOT_TRUSTED,
  CERT_HAS_EXPIRED: OUT_OF_TIME,
  CERT_NOT_YET_VALID: OUT_OF_TIME,
  ERR_TLS_CERT_ALTNAME_INVALID: [
    'unreachable',
    'The certificate is for another host name. Use a name of the certificate in the URL.',
  ],
  ERR_SSL_WRONG_VERSION_NUMBER: NO_TLS,
  ERR_SSL_PACKET_LENGTH_TOO_LONG: NO_TLS,
  EPROTO: NO_TLS,
};

/** Says what to do about an answer that is not from a node, by its status. */
function adviceFor(status: number, location: string | undefined): string {
  if (status >= 300 && status < 400 && location !== undefined)
    return `It redirects to ${JSON.stringify(location.slice(0, 200))}: use the URL to which it leads.`;
  return advice[status] ?? 'Check the URL and any proxy in between.';
}

const NOT_REACHED =
  'A proxy in between could not reach the node: check that the node runs, and which address the proxy has for it.';

const advice: Record<number, string> = {
  401: 'A proxy in between asks for credentials of its own.',
  403: 'A proxy in between refuses this request.',
  404: 'No node has this path: check the path of the URL.',
  407: 'A proxy in between asks for credentials of its own.',
  408: 'A proxy in between did not wait for the whole request: raise its limit, or use the URL of the node itself.',
  413:
    'A proxy in between refuses a request of this size: raise its limit (nginx: client_max_body_size), or use the URL of ' +
    'the node itself.',
  429: 'A proxy in between limits the number of requests: try again later.',
  502: NOT_REACHED,
  503: NOT_REACHED,
  504:
    'A proxy in between did not wait for the answer of the node: raise its limit (nginx: proxy_read_timeout), or use the URL ' +
    'of the node itself. The node may still be at work: see status.',
};

/** Reports an answer that is not from a node, such as a proxy's error page. Its HTML would not help on a terminal. */
export function unexpectedAnswer(
  where: string,
  { status, type, location }: { status: number; type: string | undefined; location: string | undefined },
): NodeError {
  const kind = type === undefined || type === '' ? 'without a type' : `of type ${JSON.stringify(type).slice(0, 80)}`;
  const found = `The answer has status ${status} and a body ${kind}, so it is not from a node.`;
  return new NodeError('unexpected_answer', `${where}: ${found} ${adviceFor(status, location)}`, { status });
}

/** Converts a connection error. The message begins with `where`, so never pass a secret in it. */
export function toNodeError(error: unknown, where: string, interrupted: boolean): NodeError {
  if (error instanceof NodeError) return error;
  if (interrupted) return new NodeError('interrupted', 'Interrupted.', { cause: error });
  const code = codeOf(error) ?? '';
  // undici's HTTPParserError does not always have a code.
  const isNotHttp = code.startsWith('HPE_') || (error instanceof Error && error.name === 'HTTPParserError');
  const known = isNotHttp ? NOT_HTTP : faults[code];
  if (known !== undefined) return new NodeError(known[0], `${where}: ${known[1]}`, { cause: error });
  const reason = code === '' ? (error instanceof Error ? error.name : 'unknown') : code;
  return new NodeError('unreachable', `${where}: The request failed (${reason}).`, { cause: error });
}
