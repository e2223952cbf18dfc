import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance } from 'fastify';
import { limits } from '../../limits.ts';

/** Matches visible ASCII without quotes and backslash, which log lines, headers and entries contain unescaped. */
const acceptable = new RegExp(`^[!#-&(-\\[\\]-~]{1,${limits.maxRequestIdBytes}}$`);

/** Returns the client's `x-request-id` if it is acceptable, otherwise a new id. */
export function readRequestId(request: IncomingMessage): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && acceptable.test(given) ? given : randomUUID();
}

/** Adds the request id to every answer, errors included, and forbids caching. */
export function registerRequestId(app: FastifyInstance): void {
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id);
    reply.header('cache-control', 'no-store');
    reply.header('x-content-type-options', 'nosniff');
    done();
  });
}
