import type { FastifyInstance } from 'fastify';
import type { ServerOptions } from './context.ts';

export type { NodeFacts, ServerOptions } from './context.ts';

export interface HttpServer {
  /** For tests: `await app.ready()`, then `app.inject(…)`. */
  app: FastifyInstance;
  /** Listens on the configured host and port; resolves with the address, the port being a real one. */
  listen(): Promise<{ host: string; port: number; url: string }>;
  /** Takes no new connections, lets open requests finish (cuts them off after `timeoutMs`), and closes. */
  close(options?: { timeoutMs?: number }): Promise<void>;
}

/** Builds the HTTP side without listening. */
export function createServer(options: ServerOptions): HttpServer {
  void options;
  throw new Error('not built yet');
}
