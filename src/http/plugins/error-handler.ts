import { randomUUID } from 'node:crypto';
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { isLoomError, LoomError } from '../../errors.ts';
import { toProblem } from '../reply/problem.ts';
import { hasBody } from '../request/body.ts';

/** Lists headers of a successful answer that a route may have set before it failed. */
const headersOfSuccess = ['etag', 'last-modified', 'location', 'content-disposition', 'content-encoding', 'vary'];

/** Logs the cause of a failed request, once for many requests. */
export type ReportFailure = (error: LoomError) => void;

/** Have no cause that is worth a line: each `internal` error is logged in full, and `draining` is the operator's wish. */
const unreported: ReadonlySet<string> = new Set(['internal', 'draining']);

/** Answers every error with a problem body, and logs unexpected errors in full under the request id. */
export function registerErrorHandler(app: FastifyInstance, reportFailure: ReportFailure): void {
  app.decorateRequest('problemCode', undefined);
  const note = (request: FastifyRequest, error: unknown, code: string): void => {
    request.problemCode = code;
    if (isLoomError(error) && error.status >= 500 && !unreported.has(code)) reportFailure(error);
  };
  app.addHook('onSend', (request, _reply, payload, done) => {
    // A stream that fails after the head cannot become a problem. The client sees an aborted answer, and the log why.
    if (payload instanceof Readable) {
      payload.once('error', (error: unknown) => {
        if (isLoomError(error)) note(request, error, error.code);
      });
    }
    done(null, payload);
  });
  app.setErrorHandler((error, request, reply) => {
    const problem = toProblem(error, request.id);
    if (problem.code === 'internal') request.log.error({ err: error }, 'request failed unexpectedly');
    else if (problem.status >= 500) request.log.debug({ err: error }, 'request failed');
    note(request, error, problem.code);
    for (const name of headersOfSuccess) reply.removeHeader(name);
    return reply.code(problem.status).headers(problem.headers).send(problem.body);
  });
}

/** Answers an error that occurs before routing, such as an invalid path. Fastify runs no hooks for it. */
export function answerFrameworkError(error: Error, request: FastifyRequest, reply: FastifyReply): void {
  const problem = toProblem(error, request.id);
  request.log.info({ status: problem.status, code: problem.code }, 'request refused');
  reply.raw.writeHead(problem.status, {
    ...problem.headers,
    'x-request-id': request.id,
    'cache-control': 'no-store',
    'content-length': String(Buffer.byteLength(problem.body)),
    // To keep the connection open, Node would read the rest of the body, however long it is.
    ...(hasBody(request.raw) ? { connection: 'close' } : {}),
  });
  reply.raw.end(request.method === 'HEAD' ? undefined : problem.body);
}

/** Answers input that is not a valid HTTP request. Node passes only the socket, without a response. */
export function answerClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable || isAnswering(socket)) {
    socket.destroy();
    return;
  }
  const requestId = randomUUID();
  const problem = toProblem(parserError(error), requestId);
  const head = [
    `HTTP/1.1 ${problem.status} ${reasons[problem.status] ?? 'Bad Request'}`,
    ...Object.entries(problem.headers).map(([name, value]) => `${name}: ${value}`),
    `x-request-id: ${requestId}`,
    'cache-control: no-store',
    `content-length: ${Buffer.byteLength(problem.body)}`,
    'connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${problem.body}`, () => socket.destroy());
}

const reasons: Record<number, string> = { 408: 'Request Timeout', 431: 'Request Header Fields Too Large' };

function parserError(error: NodeJS.ErrnoException): LoomError {
  switch (error.code) {
    case 'HPE_HEADER_OVERFLOW':
      return new LoomError('headers_too_large', 'The request line and headers together exceed 16 KiB.');
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new LoomError('request_timeout', 'The request headers did not arrive in time.');
    default:
      return new LoomError('malformed_request', 'This is not a valid HTTP/1.1 request.');
  }
}

/** Returns whether an answer is being sent. The client would read a second answer as part of the first. */
function isAnswering(socket: Socket): boolean {
  const response: unknown = Reflect.get(socket, '_httpMessage');
  return typeof response === 'object' && response !== null && Reflect.get(response, 'headersSent') === true;
}
