import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { Server as NetServer, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import type { StatusReport } from '../domain/status.ts';
import { limits } from '../limits.ts';
import { createPaced, type Paced, type PaceOptions, watchPace } from './pace-watch.ts';

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

export interface ConnectionOptions extends PaceOptions {
  maxConnections: number;
  /** Milliseconds until a connection on which no byte has arrived is closed. */
  silentTimeoutMs: number;
  /** While it returns true, each answer has `Connection: close`, also the answers that Fastify writes without hooks. */
  isDraining(): boolean;
}

interface Client extends Paced {
  /** Responses to its requests in flight. Node never closes a response that waits behind another one. */
  responses: Set<ServerResponse>;
  /** Whether it was accepted beyond the maximum, so that it may only send a probe. */
  isExtra: boolean;
}

export type Connections = ReturnType<typeof trackConnections>;

/**
 * Bounds the connections of a server, and the time for which a silent or slow client uses one. Node's headers timeout
 * covers connections with a part of a request. Keeps the requests in flight on each connection, so that a shutdown
 * resets none of them. Node's own `closeIdleConnections` destroys a connection whose next request is on its way. It
 * also skips connections that have had no request, which browsers and load balancers open in advance.
 */
export function trackConnections(server: Server, options: ConnectionOptions) {
  const { maxConnections, silentTimeoutMs, paceWindowMs, isDraining } = options;
  const clients = new Map<Socket, Client>();
  // A Set keeps the order of insertion, so the first element has been silent or idle for the longest time.
  const silent = new Set<Socket>();
  const idle = new Set<Socket>();
  const emptied = createEvent();
  let closing = false;

  /** Makes room for one more connection. Returns whether the new one may only send a probe, or `refused`. */
  function makeRoom(): boolean | 'refused' {
    if (clients.size < maxConnections) return false;
    const hasExtraRoom = clients.size < maxConnections + limits.maxProbeConnections;
    const ordinary = firstOrdinary(silent, clients) ?? firstOrdinary(idle, clients);
    const [silentExtra] = hasExtraRoom ? [] : silent;
    const unused = ordinary ?? silentExtra;
    if (unused === undefined) return hasExtraRoom || 'refused';
    forget(unused);
    unused.destroy();
    // An unused connection beyond the maximum makes room only for another one beyond it.
    return ordinary === undefined;
  }

  function forget(socket: Socket): void {
    clients.delete(socket);
    silent.delete(socket);
    idle.delete(socket);
  }

  server.on('connection', (socket: Socket) => {
    const isExtra = makeRoom();
    if (isExtra === 'refused') {
      socket.destroy();
      return;
    }
    clients.set(socket, { responses: new Set(), isExtra, ...createPaced(paceWindowMs) });
    silent.add(socket);
    // Node destroys the socket after this time without a byte.
    socket.setTimeout(silentTimeoutMs);
    socket.once('close', () => {
      forget(socket);
      if (clients.size === 0) emptied.happen();
    });
  });
  server.prependListener('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
    if (closing || isDraining()) response.shouldKeepAlive = false;
    if (silent.delete(socket)) socket.setTimeout(0);
    idle.delete(socket);
    const client = clients.get(socket);
    if (client === undefined || socket.destroyed) return;
    client.responses.add(response);
    response.on('close', () => {
      client.responses.delete(response);
      if (client.responses.size > 0 || !clients.has(socket)) return;
      idle.add(socket);
      if (closing) socket.destroySoon();
    });
  });

  watchPace(server, clients, options);

  /** Resolves when no connection is open, or after `timeoutMs`. Without a timeout, waits for ever. */
  const empty = async (timeoutMs?: number): Promise<void> => {
    if (clients.size > 0) await emptied.wait(timeoutMs);
  };

  return {
    /**
     * Stops accepting connections, also on `further` listening sockets. Closes each connection after its next answer,
     * or after a short wait if it is idle.
     */
    closeWhenIdle: async (further: readonly NetServer[]): Promise<void> => {
      closing = true;
      await acceptWaiting();
      for (const one of further) one.close();
      // The `close` of an HTTP server would also destroy the idle connections.
      NetServer.prototype.close.call(server);
      await empty(limits.idleLingerMs);
      endUnused(clients);
    },
    empty,
    /** Also closes connections that have left HTTP, which Node's `closeAllConnections` skips. */
    destroyAll: (): void => {
      for (const socket of clients.keys()) socket.destroy();
    },
    openResponses: (): ServerResponse[] => [...clients.values()].flatMap(({ responses }) => [...responses]),
    isEmpty: (): boolean => clients.size === 0,
    /** Returns whether the connection was accepted beyond the maximum. */
    isExtra: (socket: Socket): boolean => clients.get(socket)?.isExtra === true,
    count: (): StatusReport['connections'] => ({
      open: clients.size,
      idle: silent.size + idle.size,
      max: maxConnections,
    }),
  };
}

/** Returns the first connection that is not beyond the maximum. */
function firstOrdinary(sockets: ReadonlySet<Socket>, clients: ReadonlyMap<Socket, Client>): Socket | undefined {
  for (const socket of sockets) if (clients.get(socket)?.isExtra === false) return socket;
  return undefined;
}

/** Ends the sending side of unused connections. To close both at once would reset a request that arrives now. */
function endUnused(clients: ReadonlyMap<Socket, Client>): void {
  const isUnused = (socket: Socket): boolean => (clients.get(socket)?.responses.size ?? 0) === 0;
  for (const socket of clients.keys()) {
    if (!isUnused(socket)) continue;
    socket.end();
    setTimeout(() => {
      if (isUnused(socket)) socket.destroy();
    }, limits.idleLingerMs).unref();
  }
}

/** Creates an event that may happen again and again, with waits for its next time. */
function createEvent() {
  const waiting = new Set<() => void>();
  return {
    happen: (): void => {
      for (const resolve of waiting) resolve();
    },
    /** Resolves when the event happens, or after `timeoutMs`. */
    wait: (timeoutMs?: number): Promise<void> =>
      new Promise((resolve) => {
        const deadline = timeoutMs === undefined ? undefined : setTimeout(() => done(), Math.max(0, timeoutMs));
        const done = (): void => {
          clearTimeout(deadline);
          waiting.delete(done);
          resolve();
        };
        waiting.add(done);
      }),
  };
}

/** Returns the maximum number of connections: the configured one, as far as the limit of open files allows it. */
export function chooseMaxConnections(
  { configured, poolMax }: { configured: number | undefined; poolMax: number },
  openFiles = readOpenFileLimit(),
): number {
  const possible = openFiles - poolMax - limits.reservedFiles - limits.maxProbeConnections;
  return Math.max(limits.minConnections, Math.min(configured ?? limits.maxConnections, possible));
}

/** Returns how many files, and so sockets, this process may open. */
function readOpenFileLimit(): number {
  const report: { userLimits?: { open_files?: { soft?: unknown } } } = Object(process.report.getReport());
  const soft = report.userLimits?.open_files?.soft;
  return typeof soft === 'number' ? soft : Number.POSITIVE_INFINITY;
}
