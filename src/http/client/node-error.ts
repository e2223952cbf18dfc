import type { ErrorPlace } from '../../errors.ts';

/**
 * Why a node did not do what a client asked for. `code` is that of the node's answer (docs/errors.md), or one of the client's
 * own: `unreachable`, `connection_cut`, `timeout`, `interrupted`, `unexpected_answer`.
 */
export class NodeError extends Error {
  readonly code: string;
  readonly place: ErrorPlace;
  /** Of the answer; undefined when there was none. */
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

export interface NodeErrorOptions {
  place?: ErrorPlace;
  status?: number | undefined;
  requestId?: string | undefined;
  cause?: unknown;
}

/** The node's own words, if the body is a problem (RFC 9457) with a code; undefined when something else has answered. */
export function problemOf(status: number, text: string): NodeError | undefined {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return undefined;
  }
  const code = memberOf(body, 'code', 'string');
  if (code === undefined || !/^[a-z_]{1,64}$/.test(code)) return undefined;
  const detail = memberOf(body, 'detail', 'string') ?? 'The node says no more.';
  return new NodeError(code, detail, {
    status,
    requestId: memberOf(body, 'request_id', 'string'),
    place: placeOf(body),
  });
}

function placeOf(body: unknown): ErrorPlace {
  const place: ErrorPlace = {};
  const pointer = memberOf(body, 'pointer', 'string');
  const offset = memberOf(body, 'offset', 'number');
  const document = memberOf(body, 'document', 'string');
  const seq = memberOf(body, 'seq', 'number');
  if (pointer !== undefined) place.pointer = pointer;
  if (offset !== undefined) place.offset = offset;
  if (document !== undefined) place.document = document;
  if (seq !== undefined) place.seq = seq;
  return place;
}

interface Types {
  string: string;
  number: number;
}

function memberOf<Type extends keyof Types>(body: unknown, name: string, type: Type): Types[Type] | undefined {
  const value: unknown = typeof body === 'object' && body !== null ? Reflect.get(body, name) : undefined;
  return typeof value === type ? (value as Types[Type]) : undefined;
}

const words: Record<string, [code: string, message: string]> = {
  ECONNREFUSED: ['unreachable', 'Nothing listens there: the connection was refused.'],
  ENOTFOUND: ['unreachable', 'There is no host of this name.'],
  EAI_AGAIN: ['unreachable', 'The name of the host cannot be looked up now.'],
  UND_ERR_CONNECT_TIMEOUT: ['unreachable', 'Nobody answered the attempt to connect in time.'],
  UND_ERR_HEADERS_TIMEOUT: ['timeout', 'No answer came in time.'],
  UND_ERR_BODY_TIMEOUT: ['timeout', 'The answer stood still for too long.'],
  UND_ERR_SOCKET: ['connection_cut', 'The connection was cut before the answer was complete.'],
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: ['connection_cut', 'The answer is shorter or longer than it said.'],
  ECONNRESET: ['connection_cut', 'The connection was cut before the answer was complete.'],
  EPIPE: ['connection_cut', 'The connection was cut before the request was complete.'],
};

const NOT_HTTP: [code: string, message: string] = ['unexpected_answer', 'What answers there does not speak HTTP.'];

/** undici's, which has no code of its own where the parser gives none. */
function isParserFault(error: unknown): boolean {
  return error instanceof Error && error.name === 'HTTPParserError';
}

/** What went wrong on the way, in words without anything that was sent. `where` is shown: it must hold no secret. */
export function faultOnTheWay(error: unknown, where: string, interrupted: boolean): NodeError {
  if (error instanceof NodeError) return error;
  if (interrupted) return new NodeError('interrupted', 'Interrupted.', { cause: error });
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
  // What is no HTTP, from the first byte or from some byte on.
  const known = code.startsWith('HPE_') || isParserFault(error) ? NOT_HTTP : words[code];
  if (known !== undefined) return new NodeError(known[0], `${where}: ${known[1]}`, { cause: error });
  const reason = code === '' ? (error instanceof Error ? error.name : 'unknown') : code;
  return new NodeError('unreachable', `${where}: the request could not be made (${reason}).`, { cause: error });
}
