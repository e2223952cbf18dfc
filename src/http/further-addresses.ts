import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import type { Server } from 'node:http';
import { createServer, type Server as NetServer } from 'node:net';

/**
 * Listens on the further addresses of `localhost`, which stands for both 127.0.0.1 and ::1. Fastify would create a
 * second HTTP server for them, without the parts of `node-server.ts`. This passes their connections to the first one.
 * Returns what must be closed.
 */
export async function listenOnFurtherAddresses(server: Server, host: string): Promise<NetServer[]> {
  if (host !== 'localhost') return [];
  const addresses = await lookup(host, { all: true }).catch(() => []);
  const others = await Promise.all(addresses.map(({ address }) => passConnections(server, address)));
  return others.filter((other) => other !== undefined);
}

/** Accepts the connections of an address for a listening server. Resolves with undefined if it cannot listen there. */
export async function passConnections(server: Server, address: string): Promise<NetServer | undefined> {
  const primary = server.address();
  if (primary === null || typeof primary === 'string' || primary.address === address) return undefined;
  // These are the options of an HTTP server.
  const other = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => server.emit('connection', socket));
  other.listen({ host: address, port: primary.port });
  try {
    await once(other, 'listening');
    return other;
  } catch {
    // The system may have no IPv6, or another process uses this port there. The first address serves.
    return undefined;
  }
}
