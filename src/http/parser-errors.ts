import { randomUUID } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { codeOf, LoomError } from '../errors.ts';
import { limits } from '../limits.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import { toProblem } from './reply/problem.ts';
import { requestIdOf } from './request/request-id.ts';
import type { RequestOrder } from './request-order.ts';

interface Parts {
  order: RequestOrder;
  log: Log;
  metrics: Pick<Metrics, 'countRequest'>;
}

/**
 * Creates the handler for input that Node cannot parse. Node passes only the socket, without a response. The earlier
 * requests of the connection are answered first: otherwise the client would take this answer for one of theirs.
 */
export function createParserErrorHandler({ order, log, metrics }: Parts): (error: Error, socket: Socket) => void {
  function answer(error: Error, socket: Socket): void {
    const id = randomUUID();
    const problem = toProblem(parserError(error), id);
    const req = { id, ip: socket.remoteAddress };
    log.info({ req, status: problem.status, code: problem.code, reason: codeOf(error) }, 'request refused');
    metrics.countRequest({ method: 'none', route: 'none', status: problem.status, durationMs: 0, isProbe: false });
    sendProblem(socket, problem, { id, isHead: firstBytes(error).startsWith('HEAD ') });
  }

  return (error, socket) => {
    const discardFrom = lingering.get(socket);
    if (discardFrom !== undefined) {
      if (socket.bytesRead - discardFrom > limits.lingerBytes) socket.destroy();
      return;
    }
    // The client has sent nothing yet. `connections.ts` bounds that time, and a 408 could meet its first request.
    if (codeOf(error) === 'ERR_HTTP_REQUEST_TIMEOUT' && socket.bytesRead === 0) return;
    if (codeOf(error) === 'ECONNRESET' || !socket.writable) {
      socket.destroy();
      return;
    }
    const current = order.currentOf(socket);
    if (current === undefined || current.request.complete) {
      order.afterAnswers(socket, () => answer(error, socket));
      return;
    }
    // The body of the current request is faulty. Its route still waits for the rest, and its own line logs the end.
    const { request, response } = current;
    if (response.headersSent) {
      socket.destroy();
      return;
    }
    const problem = toProblem(parserError(error), requestIdOf(request));
    response.statusCode = problem.status;
    sendProblem(socket, problem, { id: requestIdOf(request), isHead: request.method === 'HEAD' });
  };
}

/**
 * Maps each connection whose input was refused to the bytes that it had received by then. Closing it at once would
 * reset the connection of a client that still sends, and the client would lose the answer. So the node discards the
 * rest, as `plugins/linger.ts` does for bodies. Node reports each further chunk as another error.
 */
const lingering = new WeakMap<Socket, number>();

function sendProblem(
  socket: Socket,
  problem: ReturnType<typeof toProblem>,
  { id, isHead }: { id: string; isHead: boolean },
): void {
  const head = [
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status] ?? 'Error'}`,
    ...Object.entries(problem.headers).map(([name, value]) => `${name}: ${value}`),
    `x-request-id: ${id}`,
    'cache-control: no-store',
    'x-content-type-options: nosniff',
    `content-length: ${Buffer.byteLength(problem.body)}`,
    'connection: close',
  ];
  const body = isHead ? '' : problem.body;
  lingering.set(socket, socket.bytesRead);
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), limits.lingerMs);
  socket.once('close', () => clearTimeout(timer));
}

function parserError(error: Error): LoomError {
  switch (codeOf(error)) {
    case 'HPE_HEADER_OVERFLOW':
      return new LoomError('headers_too_large', 'The request line and headers together exceed 16 KiB.');
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new LoomError('request_timeout', 'The request headers did not arrive in time.');
    default:
      return new LoomError('malformed_request', `This is not a valid HTTP/1.1 request. ${hintFor(error)}`.trim());
  }
}

/** Says what is wrong with the request, as far as the first bytes or Node's code show it. */
function hintFor(error: Error): string {
  const bytes = firstBytes(error);
  // Clients send these protocols by mistake.
  if (bytes.startsWith('\x16\x03')) return 'The client sent TLS, but this port speaks plain HTTP.';
  if (bytes.startsWith('PRI ')) return 'The client sent HTTP/2. Use HTTP/1.1.';
  return hints[codeOf(error) ?? ''] ?? '';
}

/** Returns the first bytes of the packet that Node could not parse. The request began in it, unless it is very long. */
function firstBytes(error: Error): string {
  const packet: unknown = Reflect.get(error, 'rawPacket');
  return Buffer.isBuffer(packet) ? packet.toString('latin1', 0, 8) : '';
}

const lineEnds = 'A line or a chunk of the body does not end with CR and LF.';
const lengths = 'Send either one Content-Length, as a number of bytes, or Transfer-Encoding: chunked.';

/** Maps the codes of Node's parser to sentences. The text of the request is left out, because it can have a secret. */
const hints: Record<string, string> = {
  HPE_INVALID_METHOD: 'It does not begin with a known method in capital letters, such as GET.',
  HPE_INVALID_URL:
    'The path does not begin with a slash, or has a character that is not printable ASCII. ' +
    'Percent-encode document names as UTF-8.',
  HPE_INVALID_CONSTANT: 'The path is not followed by HTTP/1.1. Write each space in the path as %20.',
  HPE_INVALID_VERSION: 'Use HTTP/1.1 or HTTP/1.0, and end each line with CR and LF.',
  HPE_INVALID_HEADER_TOKEN:
    'A header is malformed. Write it as "name: value", on one line, without control characters.',
  HPE_LF_EXPECTED: lineEnds,
  HPE_CR_EXPECTED: lineEnds,
  HPE_STRICT: lineEnds,
  HPE_INVALID_CONTENT_LENGTH: lengths,
  HPE_UNEXPECTED_CONTENT_LENGTH: lengths,
  HPE_INVALID_TRANSFER_ENCODING: lengths,
  HPE_INVALID_CHUNK_SIZE: 'A chunk of the body does not begin with its size in hexadecimal.',
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 'The chunks of the body have more than 16 KiB of extensions. Leave them out.',
  HPE_INVALID_EOF_STATE: 'The client ended the connection before the request was complete.',
  HPE_CLOSED_CONNECTION: 'It follows a request with Connection: close. Use another connection.',
};
