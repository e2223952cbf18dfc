import type { ServerResponse } from 'node:http';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { LoomError } from '../../errors.ts';

export interface OpenRequests {
  /**
   * Answers the requests of these responses with `draining`, unless their answers have begun. Call it when nothing more
   * is done for them. An upload that has not ended gets no answer, because its client reads none.
   */
  refuse(responses: Iterable<ServerResponse>): void;
}

declare module 'node:http' {
  interface ServerResponse {
    /** The reply that writes this response. A member costs less than a WeakMap for each request. */
    loomReply?: FastifyReply;
  }
}

/** Keeps the reply of each response, so that a shutdown can answer at its deadline. */
export function registerOpenRequests(app: FastifyInstance): OpenRequests {
  app.addHook('onRequest', (_request, reply, done) => {
    reply.raw.loomReply = reply;
    done();
  });
  return {
    refuse: (responses) => {
      const detail = 'The node shut down before it began this request.';
      for (const response of responses) {
        const reply = response.loomReply;
        // Fastify counts a stream as sent only at its end.
        if (reply === undefined || reply.sent || response.headersSent || !reply.request.raw.complete) continue;
        reply.send(new LoomError('draining', detail, { retryAfterSeconds: 1 }));
      }
    },
  };
}
