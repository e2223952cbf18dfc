import type { FastifyInstance } from 'fastify';
import type { Metrics } from '../../metrics.ts';
import { servedRoute } from '../openapi/codes.ts';
import { metricsSchema } from '../openapi/components.ts';
import type { Operation } from '../openapi/operation.ts';
import { operatorRoute } from '../route-config.ts';

const readMetrics = {
  id: 'readMetrics',
  summary: 'Returns metrics for Prometheus',
  query: 'any',
  answers: { 200: { description: 'The metrics.', content: { 'text/plain': metricsSchema } } },
  codes: servedRoute,
} satisfies Operation;

export function registerMetrics(
  app: FastifyInstance,
  { metrics, isPublic }: { metrics: Pick<Metrics, 'scrape'>; isPublic: boolean },
): void {
  app.get('/metrics', operatorRoute(isPublic ? 'none' : 'metrics', readMetrics), async (_request, reply) => {
    const { contentType, text } = await metrics.scrape();
    return reply.type(contentType).send(text);
  });
}
