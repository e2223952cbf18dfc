import type { FastifyInstance } from 'fastify';
import type { Metrics } from '../../metrics.ts';
import { operatorRoute } from '../route-config.ts';

export function registerMetrics(
  app: FastifyInstance,
  { metrics, isPublic }: { metrics: Pick<Metrics, 'scrape'>; isPublic: boolean },
): void {
  app.get('/metrics', operatorRoute(isPublic ? 'none' : 'metrics', 'any'), async (_request, reply) => {
    const { contentType, text } = await metrics.scrape();
    return reply.type(contentType).send(text);
  });
}
