import type { FastifyInstance } from 'fastify';
import type { Readiness } from '../../domain/health/readiness.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { assertKnownParameters } from '../request/query.ts';
import { parseQuery } from '../request/query-string.ts';

/**
 * Refuses unknown query parameters, and data requests while this node may not use its database. An unreachable database
 * does not close the gate: the verdict can be a few seconds old, so the pool reports that failure. During the delay
 * after SIGTERM the node keeps serving, until load balancers have noticed.
 */
export function registerGate(
  app: FastifyInstance,
  {
    readiness,
    isClosing,
    isDraining,
  }: Record<'isClosing' | 'isDraining', () => boolean> & { readiness: () => Readiness },
): void {
  app.addHook('onRequest', (request, _reply, done) => {
    const { gated, query } = request.routeOptions.config;
    if (query !== undefined && query !== 'any') assertKnownParameters(parseQuery(request.raw.url ?? ''), query);
    if (gated === true && !request.is404) assertUsable(readiness(), isClosing());
    done();
  });
  app.addHook('onSend', (_request, reply, payload, done) => {
    // The request may have arrived before, so `connections.ts` did not mark its answer.
    if (isDraining()) reply.header('connection', 'close');
    done(null, payload);
  });
}

function assertUsable({ reason, checks: { database, schema } }: Readiness, closing: boolean): void {
  const retry = { retryAfterSeconds: limits.databaseRetrySeconds };
  if (closing) throw new LoomError('draining', 'The node is shutting down.', retry);
  if (reason === 'starting' || database === 'starting') {
    throw new LoomError('starting', 'The node is still preparing its database.', retry);
  }
  if (schema === 'behind') {
    const detail =
      'The database needs migrations. Run node dist/main.js migrate, or start a node with LOOM_MIGRATE=auto.';
    throw new LoomError('schema_behind', detail, retry);
  }
  if (schema === 'ahead') {
    const detail = 'The schema of the database is newer than this node supports. Deploy a newer LOOM.';
    throw new LoomError('schema_ahead', detail, retry);
  }
}
