import type { FastifyInstance } from 'fastify';
import { isLoomError, LoomError } from '../../errors.ts';
import type { RouteContext } from '../context.ts';
import { abortSignalOf } from '../reply/stream.ts';
import { openBody } from '../request/body.ts';
import { dataRoute } from '../route-config.ts';

export function registerRestore(app: FastifyInstance, { store, bodyIdleTimeoutMs }: RouteContext): void {
  app.post('/v1/admin/persistence/restore', dataRoute('admin'), async (request, reply) => {
    const signal = abortSignalOf(reply);
    // No bound on its size: what LOOM exports, LOOM restores.
    const body = openBody(request, {
      mediaTypes: ['application/json'],
      idleMs: bodyIdleTimeoutMs,
      truncatedCode: 'backup_incomplete',
    });
    try {
      return await store.restore(body, { requestId: request.id, signal });
    } catch (error) {
      throw withGzipHint(error);
    } finally {
      body.destroy();
    }
  });
}

/** gzip data begin with a byte that no JSON text can begin with. */
function withGzipHint(error: unknown): unknown {
  const isPacked =
    isLoomError(error) && error.code === 'invalid_json' && error.message.includes('byte 0x1f, at byte 0');
  if (!isPacked) return error;
  return new LoomError(error.code, `${error.message} Is it gzip? Then say so: content-encoding: gzip.`, error.place);
}
