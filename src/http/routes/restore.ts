import type { FastifyInstance } from 'fastify';
import type { Store } from '../../domain/store.ts';
import { isLoomError, LoomError } from '../../errors.ts';
import { abortSignalOf } from '../reply/stream.ts';
import { callerOf } from '../request/actor.ts';
import { JSON_TYPES, openBody } from '../request/body.ts';
import { dataRoute } from '../route-config.ts';

export function registerRestore(
  app: FastifyInstance,
  { store, paceWindowMs }: { store: Pick<Store, 'restore'>; paceWindowMs: number },
): void {
  app.post('/v1/admin/persistence/restore', dataRoute('admin'), async (request, reply) => {
    const signal = abortSignalOf(reply);
    // The body has no size limit: LOOM restores every backup that it exports.
    const body = openBody(request, { mediaTypes: JSON_TYPES, paceWindowMs, truncatedCode: 'backup_incomplete' });
    try {
      const context = { requestId: request.id, caller: callerOf(request), signal, memory: request.memory.body };
      return await store.restore(body, context);
    } catch (error) {
      throw withGzipHint(error);
    } finally {
      body.destroy();
    }
  });
}

/** Adds a hint if a body begins with 0x1f, the first byte of gzip data, which JSON text never contains. */
function withGzipHint(error: unknown): unknown {
  if (!isLoomError(error) || error.code !== 'invalid_json') return error;
  if (error.place.offset !== 0 || !error.message.includes('byte 0x1f')) return error;
  const detail = `${error.message} If the body is gzip, send the header content-encoding: gzip.`;
  return new LoomError(error.code, detail, error.place);
}
