import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

export interface Connections {
  /** Ends every connection on which no request is under way, and the others as soon as theirs is answered. */
  closeWhenIdle(): void;
}

/**
 * Knows which connections wait for a request. Node's own `closeIdleConnections` leaves out those that have never had one,
 * as browsers and load balancers open them in advance: they would hold up the end of a node until they time out.
 */
export function trackConnections(server: Server): Connections {
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
    closeWhenIdle: () => {
      closing = true;
      for (const [socket, count] of requestsOf) if (count === 0) socket.destroy();
    },
  };
}
