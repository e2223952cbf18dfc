import type { Socket } from 'node:net';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { LoomError } from '../../errors.ts';
import { toProblem } from '../reply/problem.ts';
import { hasBody } from '../request/body.ts';

/** Headers that describe the answer that was meant to be given. */
const headersOfSuccess = ['etag', 'last-modified', 'location', 'content-disposition', 'content-encoding', 'vary'];

/** Answers every error as a problem; what was not expected is logged whole, under the request's id. */
export function registerProblems(app: FastifyInstance): void {
  app.setErrorHandler((error, request, reply) => {
    const problem = toProblem(error, request.id);
    if (problem.code === 'internal') request.log.error({ err: error }, 'a request failed unexpectedly');
    else if (problem.status >= 500) request.log.debug({ err: error }, 'a request failed');
    for (const name of headersOfSuccess) reply.removeHeader(name);
    return reply.code(problem.status).headers(problem.headers).send(problem.body);
  });
}

/** For what goes wrong before a route is found (a path that cannot be decoded): no hook runs for it. */
export function answerFrameworkError(error: Error, request: FastifyRequest, reply: FastifyReply): void {
  const problem = toProblem(error, request.id);
  request.log.info({ status: problem.status, code: problem.code }, 'request refused');
  reply.raw.writeHead(problem.status, {
    ...problem.headers,
    'x-request-id': request.id,
    'cache-control': 'no-store',
    'content-length': String(Buffer.byteLength(problem.body)),
    // What is left of a body would otherwise be read to its end, however long.
    ...(hasBody(request.raw) ? { connection: 'close' } : {}),
  });
  reply.raw.end(request.method === 'HEAD' ? undefined : problem.body);
}

/** For what is no HTTP: there is no request and no response, only a socket. */
export function answerClientError(error: NodeJS.ErrnoException, socket: Socket, createId: () => string): void {
  if (error.code === 'ECONNRESET' || !socket.writable || isAnswering(socket)) {
    socket.destroy();
    return;
  }
  const requestId = createId();
  const problem = toProblem(clientError(error), requestId);
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

function clientError(error: NodeJS.ErrnoException): LoomError {
  switch (error.code) {
    case 'HPE_HEADER_OVERFLOW':
      return new LoomError('headers_too_large', 'The request line and headers have more than 16 KiB together.');
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new LoomError('request_timeout', 'The head of the request did not arrive in time.');
    default:
      return new LoomError('malformed_request', 'This is not a valid HTTP/1.1 request.');
  }
}

/** Another answer in the middle of one would be taken for a part of it. */
function isAnswering(socket: Socket): boolean {
  const response: unknown = Reflect.get(socket, '_httpMessage');
  return typeof response === 'object' && response !== null && Reflect.get(response, 'headersSent') === true;
}
