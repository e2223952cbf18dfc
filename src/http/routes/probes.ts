import type { FastifyInstance } from 'fastify';
import type { RouteContext } from '../context.ts';
import { operatorRoute } from '../route-config.ts';

/** Design §8: answered from memory, without a token, whatever the database does. */
export function registerProbes(app: FastifyInstance, { readiness }: Pick<RouteContext, 'readiness'>): void {
  app.get('/live', operatorRoute('none', 'any'), () => ({ ok: true }));

  app.get('/ready', operatorRoute('none', 'any'), (_request, reply) => {
    const answer = readiness();
    return reply.code(answer.ok ? 200 : 503).send(answer);
  });
}
