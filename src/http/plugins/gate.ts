import type { FastifyInstance } from 'fastify';
import type { Readiness } from '../../domain/readiness.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { assertKnownParameters } from '../request/query.ts';

/**
 * Keeps requests from a database that this node must not use yet, or any more. A database that is away does not close the
 * gate: its pool answers for itself, and a verdict can be a few seconds old. Nor does the delay after SIGTERM: it is there
 * so that requests are still served while load balancers notice.
 */
export function registerGate(
  app: FastifyInstance,
  { readiness, isClosing }: { readiness: () => Readiness; isClosing: () => boolean },
): void {
  app.addHook('onRequest', (request, _reply, done) => {
    const { gated, query } = request.routeOptions.config;
    const now = readiness();
    try {
      if (query !== undefined && query !== 'any') assertKnownParameters(request.query, query);
      if (gated === true && !request.is404) assertUsable(now, isClosing());
    } catch (error) {
      done(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    done();
  });
  app.addHook('onSend', (_request, reply, payload, done) => {
    // Whoever keeps a connection open should take the next request elsewhere.
    if (isClosing() || readiness().checks.http === 'draining') reply.header('connection', 'close');
    done(null, payload);
  });
}

function assertUsable({ reason, checks: { database, schema } }: Readiness, closing: boolean): void {
  const retryAfterSeconds = limits.databaseRetrySeconds;
  if (closing) throw new LoomError('draining', 'The node is shutting down.', { retryAfterSeconds });
  if (reason === 'starting' || database === 'starting') {
    throw new LoomError('starting', 'The node is starting: its database is not ready for it yet.', {
      retryAfterSeconds,
    });
  }
  if (schema === 'behind') {
    throw new LoomError('schema_behind', 'The database needs migrations before this node can use it.', {
      retryAfterSeconds,
    });
  }
  if (schema === 'ahead') {
    throw new LoomError(
      'schema_ahead',
      'The database has a newer schema, which this node must not use: deploy a newer LOOM.',
      {
        retryAfterSeconds,
      },
    );
  }
}
