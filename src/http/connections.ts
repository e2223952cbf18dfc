import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/**
 * Counts the requests in flight on each connection. Node's `closeIdleConnections` skips connections that have had no
 * request. Browsers and load balancers open such connections in advance, and each would delay the shutdown until it
 * times out.
 */
export function trackConnections(server: Server) {
  const requestsOf = new Map<Socket, number>();
  let closing = false;
  server.on('connection', (socket: Socket) => {
    requestsOf.set(socket, 0);
    socket.once('close', () => requestsOf.delete(socket));
  });
  server.on('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
    requestsOf.set(socket, (requestsOf.get(socket) ?? 0) + 1);
    response.once('close', () => {
      const count = requestsOf.get(socket);
      if (count === undefined) return;
      requestsOf.set(socket, count - 1);
      if (closing && count === 1) socket.destroySoon();
    });
  });
  return {
    /** Closes idle connections at once, and the others when their requests have been answered. */
    closeWhenIdle: (): void => {
      closing = true;
      for (const [socket, count] of requestsOf) if (count === 0) socket.destroy();
    },
  };
}
