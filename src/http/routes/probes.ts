import type { FastifyInstance } from 'fastify';
import type { Readiness } from '../../domain/readiness.ts';
import { operatorRoute } from '../route-config.ts';

/** Registers `/live` and `/ready`. Both answer from memory, without a token, whatever the state of the database. */
export function registerProbes(app: FastifyInstance, { readiness }: { readiness: () => Readiness }): void {
  app.get('/live', operatorRoute('none', 'any'), () => ({ ok: true }));

  app.get('/ready', operatorRoute('none', 'any'), (request, reply) => {
    const answer = readiness();
    request.problemCode = answer.reason;
    return reply.code(answer.ok ? 200 : 503).send(answer);
  });
}
