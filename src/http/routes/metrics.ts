import type { FastifyInstance } from 'fastify';
import type { RouteContext } from '../context.ts';
import { operatorRoute } from '../route-config.ts';

export function registerMetrics(app: FastifyInstance, { config, metrics }: RouteContext): void {
  app.get('/metrics', operatorRoute(config.http.metricsPublic ? 'none' : 'admin', 'any'), async (_request, reply) => {
    const { contentType, text } = await metrics.scrape();
    return reply.type(contentType).send(text);
  });
}
