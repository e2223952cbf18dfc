import { createServer, type IncomingMessage, type RequestListener, type Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { limits } from '../limits.ts';
import type { AnswerProbe } from './probe-lane.ts';
import { awaitInvitation } from './request/invitation.ts';
import type { RequestOrder } from './request-order.ts';

export interface NodeServerOptions {
  order: RequestOrder;
  headersTimeoutMs: number;
  /** Answers a probe, or returns false. */
  answerProbe: AnswerProbe;
}

/**
 * Creates the HTTP server below Fastify. It passes every request whose head Node can parse to `handle`, so that hooks
 * identify, log and count all of them. By itself, Node would answer some of them without a body or an id: a missing
 * `Host`, an unknown `Expect`. It would invite every body with 100, and close a CONNECT without an answer.
 */
export function createNodeServer(
  handle: RequestListener,
  { order, headersTimeoutMs, answerProbe }: NodeServerOptions,
): Server {
  const server = createServer(
    {
      headersTimeout: headersTimeoutMs,
      // Without this, Node looks for silent and slow clients only every 30 s.
      connectionsCheckingInterval: Math.min(limits.headersCheckMs, headersTimeoutMs / 2),
      keepAliveTimeout: limits.keepAliveTimeoutMs,
      // Streams and restores take as long as they need: routes bound the time without a byte.
      requestTimeout: 0,
      requireHostHeader: false,
    },
    order.wrap((request, response) => {
      if (request.httpVersion === '1.0') resetIfCutOff(request.socket, response);
      if (!answerProbe(request, response)) handle(request, response);
    }),
  );
  // Node silently drops headers beyond a count, perhaps a precondition. The size of a head is bounded anyway.
  server.maxHeadersCount = 0;
  server.on('connection', rememberAddress);
  server.on('connection', (socket: Socket) => order.add(socket));
  const expecting = (request: IncomingMessage, response: ServerResponse): void => {
    awaitInvitation(request, response);
    server.emit('request', request, response);
  };
  server.on('checkContinue', expecting);
  server.on('checkExpectation', expecting);
  server.on('connect', (request: IncomingMessage, socket: Socket) => {
    // Node has removed its own listeners.
    socket.on('error', () => socket.destroy());
    order.afterAnswers(socket, () => server.emit('request', request, responseOn(socket, request)));
  });
  return server;
}

/**
 * Makes the socket store the address of its peer, which the operating system forgets when the connection breaks.
 * Without an address, the client has reset the connection already, and no answer can reach it.
 */
function rememberAddress(socket: Socket): void {
  if (socket.remoteAddress === undefined) socket.destroy();
}

/** Creates the response to a request whose socket Node has handed over. It closes the connection. */
function responseOn(socket: Socket, request: IncomingMessage): ServerResponse {
  const response = new ServerResponse(request);
  response.shouldKeepAlive = false;
  response.assignSocket(socket);
  response.once('finish', () => {
    response.detachSocket(socket);
    socket.destroySoon();
    // Node does it for the responses that it creates.
    response.emit('close');
  });
  return response;
}

/**
 * Makes every premature end of an answer a reset of the connection. HTTP/1.0 has no chunks: the end of the connection
 * marks the end of a stream, so a client or proxy would take a part for the whole.
 */
function resetIfCutOff(socket: Socket, response: ServerResponse): void {
  const destroy = socket.destroy;
  const restore = (): void => {
    socket.destroy = destroy;
  };
  socket.destroy = () => {
    restore();
    socket.resetAndDestroy();
    return socket;
  };
  // Before Node's own listener, which closes the connection in the regular way.
  response.prependOnceListener('finish', restore);
}
