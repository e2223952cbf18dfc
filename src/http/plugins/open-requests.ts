import { finished } from 'node:stream';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { LoomError } from '../../errors.ts';

export interface OpenRequests {
  /**
   * Answers every request that still waits with `draining`. Call it when nothing more is done for them. An upload that
   * has not ended gets no answer, because its client reads none.
   */
  refuseAll(): void;
}

/** Keeps the requests without an answer, so that a shutdown can answer them at its deadline. */
export function registerOpenRequests(app: FastifyInstance): OpenRequests {
  const open = new Set<FastifyReply>();
  app.addHook('onRequest', (_request, reply, done) => {
    open.add(reply);
    finished(reply.raw, { readable: false }, () => open.delete(reply));
    done();
  });
  return {
    refuseAll: () => {
      for (const reply of open) {
        if (reply.sent || !reply.request.raw.complete) continue;
        reply.send(
          new LoomError('draining', 'The node shut down before it began this request.', { retryAfterSeconds: 1 }),
        );
      }
    },
  };
}
