import type { FastifyInstance } from 'fastify';
import { livenessSchema, type Readiness, readinessSchema } from '../../domain/health/readiness.ts';
import { jsonAnswer, type Operation } from '../openapi/operation.ts';
import { operatorRoute } from '../route-config.ts';

const readLiveness = {
  id: 'readLiveness',
  summary: 'Says that the process runs',
  query: 'any',
  answers: jsonAnswer(livenessSchema, 'The process runs.'),
} satisfies Operation;

const readReadiness = {
  id: 'readReadiness',
  summary: 'Says whether the node can serve, from the last check of the database',
  query: 'any',
  answers: {
    ...jsonAnswer(readinessSchema, 'The node can serve.'),
    503: { description: 'The node cannot serve, with the reason.', content: { 'application/json': readinessSchema } },
  },
} satisfies Operation;

/** Registers `/live` and `/ready`. Both answer from memory, without a token, whatever the state of the database. */
export function registerProbes(app: FastifyInstance, { readiness }: { readiness: () => Readiness }): void {
  app.get('/live', operatorRoute('none', readLiveness), () => ({ ok: true }));

  app.get('/ready', operatorRoute('none', readReadiness), (request, reply) => {
    const answer = readiness();
    request.problemCode = answer.reason;
    return reply.code(answer.ok ? 200 : 503).send(answer);
  });
}
