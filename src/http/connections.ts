import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { StatusReport } from '../domain/status.ts';
import { limits } from '../limits.ts';
import { createPace, fairWaitMs, type Pace, SAMPLES_PER_WINDOW } from './pace.ts';

export interface ConnectionOptions {
  maxConnections: number;
  /** Milliseconds over which a client must take its answer at the minimum rate. */
  paceWindowMs: number;
  /** Called before a connection is reset because its client takes an answer too slowly. */
  onSlowClient(address: string | undefined): void;
}

interface Client {
  /** Number of its requests in flight. */
  requests: number;
  /** Whether it was accepted beyond the maximum, so that it may only send a probe. */
  isExtra: boolean;
  pace: Pace;
  takenBytes: number;
  /** Whether bytes were waiting for the client at the last sample. */
  wasSlow: boolean;
}

export type Connections = ReturnType<typeof trackConnections>;

/**
 * Bounds the connections of a server, and the time for which a slow client uses one. Node's headers timeout covers
 * connections without a request. Node's `closeIdleConnections` skips connections that have had no request. Browsers and
 * load balancers open such connections in advance, and each would delay the shutdown until it times out.
 */
export function trackConnections(server: Server, { maxConnections, paceWindowMs, onSlowClient }: ConnectionOptions) {
  const clients = new Map<Socket, Client>();
  // A Set keeps the order of insertion, so the first element has been silent or idle for the longest time.
  const silent = new Set<Socket>();
  const idle = new Set<Socket>();
  let closing = false;

  /** Makes room for one more connection. Returns whether the new one may only send a probe, or `refused`. */
  function makeRoom(): boolean | 'refused' {
    if (clients.size < maxConnections) return false;
    const [unused] = silent.size > 0 ? silent : idle;
    if (unused === undefined) return clients.size < maxConnections + limits.maxProbeConnections || 'refused';
    forget(unused);
    unused.destroy();
    return false;
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
    clients.set(socket, { requests: 0, isExtra, pace: createPace(paceWindowMs), takenBytes: 0, wasSlow: false });
    silent.add(socket);
    socket.once('close', () => forget(socket));
  });
  server.on('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
    const client = clients.get(socket);
    if (client === undefined) return;
    silent.delete(socket);
    idle.delete(socket);
    client.requests += 1;
    response.once('close', () => {
      client.requests -= 1;
      if (client.requests > 0 || !clients.has(socket)) return;
      idle.add(socket);
      if (closing) socket.destroySoon();
    });
  });

  const sampleMs = paceWindowMs / SAMPLES_PER_WINDOW;
  let sampledMs = performance.now();
  const timer = setInterval(() => {
    const waitedMs = fairWaitMs(performance.now() - sampledMs, sampleMs);
    sampledMs = performance.now();
    for (const [socket, client] of clients) {
      if (!takesTooSlowly(socket, client, waitedMs)) continue;
      onSlowClient(socket.remoteAddress);
      // A reset also discards the bytes in the kernel's buffer, which the client may never take.
      socket.resetAndDestroy();
    }
  }, sampleMs).unref();
  server.once('close', () => clearInterval(timer));

  return {
    /** Closes idle connections at once, and the others when their requests have been answered. */
    closeWhenIdle: (): void => {
      closing = true;
      for (const [socket, { requests }] of clients) if (requests === 0) socket.destroy();
    },
    /** Returns whether the connection was accepted beyond the maximum. */
    isExtra: (socket: Socket): boolean => clients.get(socket)?.isExtra === true,
    count: (): StatusReport['connections'] => ({
      open: clients.size,
      idle: silent.size + idle.size,
      max: maxConnections,
    }),
  };
}

/** Samples how many bytes a client has taken. Time counts against it only while bytes wait for it. */
function takesTooSlowly(socket: Socket, client: Client, waitedMs: number): boolean {
  const takenBytes = socket.bytesWritten - socket.writableLength;
  const movedBytes = takenBytes - client.takenBytes;
  const isSlow = socket.writableLength > 0;
  const waited = isSlow && client.wasSlow ? waitedMs : 0;
  client.takenBytes = takenBytes;
  client.wasSlow = isSlow;
  return (waited > 0 || movedBytes > 0) && client.pace.isTooSlow(waited, movedBytes);
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
