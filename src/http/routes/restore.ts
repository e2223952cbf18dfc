import type { FastifyInstance } from 'fastify';
import { openBody } from '../body.ts';
import type { RouteContext } from '../context.ts';
import { dataRoute } from '../route-config.ts';
import { abortSignalOf } from '../stream-reply.ts';

export function registerRestore(app: FastifyInstance, { store, bodyIdleMs }: RouteContext): void {
  app.post('/v1/admin/persistence/restore', dataRoute('admin'), async (request, reply) => {
    const signal = abortSignalOf(reply);
    // No bound on its size: what LOOM exports, LOOM restores.
    const body = openBody(request, {
      mediaTypes: ['application/json'],
      idleMs: bodyIdleMs,
      truncatedCode: 'backup_incomplete',
    });
    try {
      return await store.restore(body, { requestId: request.id, signal });
    } finally {
      body.destroy();
    }
  });
}
