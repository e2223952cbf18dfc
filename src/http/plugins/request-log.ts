import { finished } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { RouteContext } from '../context.ts';

/** One line and one measure for each request, whatever became of it. Never a query, a header or a body. */
export function registerRequestLog(
  app: FastifyInstance,
  { log, metrics }: Pick<RouteContext, 'log' | 'metrics'>,
): void {
  app.addHook('onRequest', (request, reply, done) => {
    const startedAt = performance.now();
    finished(reply.raw, { readable: false }, () => {
      const durationMs = performance.now() - startedAt;
      const complete = reply.raw.writableFinished;
      const status = reply.raw.statusCode;
      const route = request.routeOptions.url ?? 'none';
      metrics.countRequest({ method: request.method, route, status, durationMs });
      log[levelOf(request, reply)](
        {
          req: request,
          status,
          durationMs: Math.round(durationMs * 10) / 10,
          ...(request.actor === undefined ? {} : { actor: request.actor }),
          ...(complete ? {} : { complete }),
        },
        complete ? 'request answered' : 'request broken off',
      );
    });
    done();
  });
}

/** Probes and scrapes come every few seconds and would bury the rest. */
function levelOf(request: FastifyRequest, reply: FastifyReply): 'debug' | 'info' | 'warn' {
  const route = request.routeOptions.url;
  if (route === '/live' || route === '/ready' || route === '/metrics') return 'debug';
  return reply.raw.statusCode >= 500 ? 'warn' : 'info';
}
