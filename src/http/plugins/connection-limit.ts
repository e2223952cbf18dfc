import type { FastifyInstance } from 'fastify';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { Connections } from '../connections.ts';
import { isProbe } from '../route-config.ts';

/** Refuses all requests but probes on a connection beyond the maximum, and closes it after the answer. */
export function registerConnectionLimit(app: FastifyInstance, { isExtra, count }: Connections): void {
  app.addHook('onRequest', (request, reply, done) => {
    if (isExtra(request.raw.socket)) {
      reply.header('connection', 'close');
      if (!isProbe(request)) throw tooManyConnections(count().max);
    }
    done();
  });
}

function tooManyConnections(max: number): LoomError {
  const detail = `All ${max} connections of this node have a request in flight. Send the request again.`;
  return new LoomError('node_busy', detail, { retryAfterSeconds: limits.databaseRetrySeconds });
}
