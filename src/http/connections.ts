import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/**
 * Counts the requests in flight on each connection. Node's own `closeIdleConnections` skips connections that never
 * had a request. Browsers and load balancers open such ones in advance; they would delay shutdown until they time out.
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
    /** Closes idle connections at once, and every other one when its request has been answered. */
    closeWhenIdle: (): void => {
      closing = true;
      for (const [socket, count] of requestsOf) if (count === 0) socket.destroy();
    },
  };
}
