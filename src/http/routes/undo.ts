import type { FastifyInstance } from 'fastify';
import { checkUndoRequest } from '../../backup/check/request.ts';
import type { Store } from '../../domain/store.ts';
import { limits } from '../../limits.ts';
import { abortSignalOf } from '../reply/stream.ts';
import { callerOf } from '../request/actor.ts';
import { JSON_TYPES } from '../request/body.ts';
import { readDocumentBody } from '../request/json-body.ts';
import { dataRoute } from '../route-config.ts';

export function registerUndo(
  app: FastifyInstance,
  { store, paceWindowMs }: { store: Pick<Store, 'undo'>; paceWindowMs: number },
): void {
  app.post('/v1/admin/persistence/undo', dataRoute('admin'), async (request, reply) => {
    const signal = abortSignalOf(reply);
    const bounds = { mediaTypes: JSON_TYPES, maxDocumentBytes: limits.maxUndoBodyBytes, paceWindowMs };
    const text = await readDocumentBody(request, bounds);
    const context = { requestId: request.id, caller: callerOf(request), signal };
    return await store.undo(checkUndoRequest(JSON.parse(text)), context);
  });
}
