import { finished } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Log } from '../../log.ts';
import type { Metrics } from '../../metrics.ts';
import { isProbe } from '../route-config.ts';

/** Logs and measures each request once, however it ends. A line never contains a query, a header or a body. */
export function registerRequestLog(
  app: FastifyInstance,
  { log, metrics }: { log: Log; metrics: Pick<Metrics, 'countRequest'> },
): void {
  app.addHook('onRequest', (request, reply, done) => {
    const startedAt = performance.now();
    finished(reply.raw, { readable: false }, () => {
      const durationMs = performance.now() - startedAt;
      const complete = reply.raw.writableFinished;
      const status = statusOf(reply, complete);
      const route = request.routeOptions.url ?? 'none';
      metrics.countRequest({ method: request.method, route, status, durationMs, isProbe: isProbe(request) });
      const { actor, problemCode: code } = request;
      const line = { req: request, status, durationMs: Math.round(durationMs * 10) / 10, actor, code };
      const level = levelOf(request, reply);
      if (complete) log[level](line, 'request answered');
      else log[level]({ ...line, complete }, 'connection closed before the whole answer was sent');
    });
    done();
  });
}

/** Returns 499 if the client disconnected before the node decided how to answer: Node's default would say 200. */
function statusOf({ raw }: FastifyReply, complete: boolean): number {
  return complete || raw.headersSent || raw.statusCode !== 200 ? raw.statusCode : 499;
}

/** Returns `debug` for probes and scrapes, which would bury the other requests. */
function levelOf(request: FastifyRequest, reply: FastifyReply): 'debug' | 'info' | 'warn' {
  if (isProbe(request)) return 'debug';
  return reply.raw.statusCode >= 500 ? 'warn' : 'info';
}
