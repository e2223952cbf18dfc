import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance } from 'fastify';
import { limits } from '../../limits.ts';

/** Visible ASCII without quotes and backslash: a log line, a header and an audit entry can hold it unescaped. */
const acceptable = new RegExp(`^[!#-&(-\\[\\]-~]{1,${limits.maxRequestIdBytes}}$`);

/** Returns the client's `x-request-id` if it is acceptable, otherwise a new id. */
export function readRequestId(request: IncomingMessage): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && acceptable.test(given) ? given : randomUUID();
}

/** Puts the request id on every answer, errors included, and forbids caches to keep any of them. */
export function registerRequestId(app: FastifyInstance): void {
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id);
    reply.header('cache-control', 'no-store');
    reply.header('x-content-type-options', 'nosniff');
    done();
  });
}
