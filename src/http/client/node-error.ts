import { codeOf, type ErrorPlace } from '../../errors.ts';

/**
 * Reports why a request to a node failed. `code` comes from the node's answer (docs/errors.md) or is one of the
 * client's own: `unreachable`, `connection_cut`, `timeout`, `interrupted`, `unexpected_answer`.
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

const CUT: Fault = ['connection_cut', 'The connection was closed before the answer was complete.'];
const NOT_HTTP: Fault = ['unexpected_answer', 'The program at this address does not speak HTTP.'];

/** Maps error codes of Node and undici to faults. */
const faults: Record<string, Fault> = {
  ECONNREFUSED: ['unreachable', 'The connection was refused: no program listens on this port.'],
  ENOTFOUND: ['unreachable', 'The host name does not exist.'],
  EAI_AGAIN: ['unreachable', 'The host name could not be resolved. Try again.'],
  UND_ERR_CONNECT_TIMEOUT: ['unreachable', 'The connection could not be opened in time.'],
  UND_ERR_HEADERS_TIMEOUT: ['timeout', 'The answer did not arrive in time.'],
  UND_ERR_BODY_TIMEOUT: ['timeout', 'The rest of the answer did not arrive in time.'],
  UND_ERR_SOCKET: CUT,
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: ['connection_cut', 'The length of the answer differs from its content-length.'],
  ECONNRESET: CUT,
  EPIPE: ['connection_cut', 'The connection was closed before the request was complete.'],
};

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
