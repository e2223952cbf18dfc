import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { Server as NetServer, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { limits } from '../limits.ts';

/** Bound the wait for a quick turn of the event loop. */
const MAX_TURNS = 50;
const QUICK_TURN_MS = 1;

/**
 * Waits until the event loop has just accepted the connections that the kernel has ready: closing the listening socket
 * resets those. A turn of the loop accepts connections first, so after a quick turn hardly any is waiting.
 */
async function acceptWaiting(): Promise<void> {
  for (let turn = 0; turn < MAX_TURNS; turn += 1) {
    const startedMs = performance.now();
    await setImmediate();
    if (performance.now() - startedMs < QUICK_TURN_MS) return;
  }
}

/**
 * Counts the requests in flight on each connection, so that a shutdown resets none of them. Node's own
 * `closeIdleConnections` destroys a connection whose next request is on its way. It also skips connections that have
 * had no request, which browsers and load balancers open in advance.
 *
 * While `isDraining` returns true, each answer has `Connection: close`: the client must send its next request to
 * another node. This includes the answers that Fastify writes without hooks.
 */
export function trackConnections(server: Server, isDraining: () => boolean) {
  const requestsOf = new Map<Socket, number>();
  const responses = new Set<ServerResponse>();
  const emptied = new Set<() => void>();
  let closing = false;
  server.on('connection', (socket: Socket) => {
    requestsOf.set(socket, 0);
    socket.once('close', () => {
      requestsOf.delete(socket);
      if (requestsOf.size === 0) for (const resolve of emptied) resolve();
    });
  });
  server.prependListener('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
    requestsOf.set(socket, (requestsOf.get(socket) ?? 0) + 1);
    if (closing || isDraining()) response.shouldKeepAlive = false;
    responses.add(response);
    response.once('close', () => {
      responses.delete(response);
      const count = requestsOf.get(socket);
      if (count === undefined) return;
      requestsOf.set(socket, count - 1);
      if (closing && count === 1) socket.destroySoon();
    });
  });

  /** Ends the sending side of idle connections. To close both at once would reset a request that arrives now. */
  function endIdle(): void {
    for (const [socket, count] of requestsOf) {
      if (count > 0) continue;
      socket.end();
      setTimeout(() => {
        if ((requestsOf.get(socket) ?? 0) === 0) socket.destroy();
      }, limits.idleLingerMs).unref();
    }
  }

  /** Resolves when no connection is open, or after `timeoutMs`. Without a timeout, waits for ever. */
  async function empty(timeoutMs?: number): Promise<void> {
    if (requestsOf.size === 0) return;
    await new Promise<void>((resolve) => {
      const timer = timeoutMs === undefined ? undefined : setTimeout(() => done(), Math.max(0, timeoutMs));
      const done = (): void => {
        clearTimeout(timer);
        emptied.delete(done);
        resolve();
      };
      emptied.add(done);
    });
  }

  return {
    /** Stops accepting connections. Closes each connection after its next answer, or after a short wait if it is idle. */
    closeWhenIdle: async (): Promise<void> => {
      closing = true;
      await acceptWaiting();
      // The `close` of an HTTP server would also destroy the idle connections.
      NetServer.prototype.close.call(server);
      await empty(limits.idleLingerMs);
      endIdle();
    },
    empty,
    /** Also closes connections that have left HTTP, which Node's `closeAllConnections` skips. */
    destroyAll: (): void => {
      for (const socket of requestsOf.keys()) socket.destroy();
    },
    openResponses: (): ServerResponse[] => [...responses],
    isEmpty: (): boolean => requestsOf.size === 0,
  };
}
