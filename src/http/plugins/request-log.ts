import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { type Log, withoutRedaction } from '../../log.ts';
import type { Metrics } from '../../metrics.ts';
import { onceDone } from '../reply/done.ts';
import { isProbe } from '../route-config.ts';

/** Logs and measures each request once, however it ends. A line never contains a query, a header or a body. */
export function registerRequestLog(
  app: FastifyInstance,
  { log, metrics }: { log: Log; metrics: Pick<Metrics, 'countRequest'> },
): void {
  const lines = withoutRedaction(log);
  app.addHook('onRequest', (request, reply, done) => {
    const startedAt = performance.now();
    onceDone(reply, () => {
      const elapsedMs = performance.now() - startedAt;
      const complete = reply.raw.writableFinished;
      const status = statusOf(reply, complete);
      const route = request.routeOptions.url ?? 'none';
      metrics.countRequest({ method: request.method, route, status, durationMs: elapsedMs, isProbe: isProbe(request) });
      const level = levelOf(request, reply);
      if (!lines.isLevelEnabled(level)) return;
      const { id, method, url, clientAddress: ip, actor, actorName, problemCode: code } = request;
      const durationMs = Math.round(elapsedMs * 10) / 10;
      const line = { req: { id, method, url, ip }, status, durationMs, actor, actorName, code };
      if (complete) lines[level](line, 'request answered');
      else lines[level]({ ...line, complete }, 'connection closed before the whole answer was sent');
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
