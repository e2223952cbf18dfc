import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance } from 'fastify';
import { limits } from '../../limits.ts';

/** Visible ASCII without quotes and backslash: fit for a log line, a header and an audit entry as it is. */
const acceptable = new RegExp(`^[!#-&(-\\[\\]-~]{1,${limits.maxRequestIdBytes}}$`);

/** The id that the client gave, if it is fit to be written down; a fresh one otherwise. */
export function requestIdOf(request: IncomingMessage, createId: () => string = randomUUID): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && acceptable.test(given) ? given : createId();
}

/** Every answer names its request, errors too. Nothing that LOOM answers may be kept by a cache on the way. */
export function registerRequestId(app: FastifyInstance): void {
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id);
    reply.header('cache-control', 'no-store');
    reply.header('x-content-type-options', 'nosniff');
    done();
  });
}
