import type { FastifyInstance } from 'fastify';
import { checkUndoRequest } from '../../backup/check/request.ts';
import { undoRequestSchema } from '../../domain/request.ts';
import type { Store } from '../../domain/store.ts';
import { undoReportSchema } from '../../domain/undo.ts';
import { limits } from '../../limits.ts';
import { operation } from '../openapi/codes.ts';
import { jsonAnswer, type Operation } from '../openapi/operation.ts';
import { abortSignalOf } from '../reply/stream.ts';
import { callerOf } from '../request/actor.ts';
import { JSON_TYPES } from '../request/body.ts';
import { readDocumentBody } from '../request/json-body.ts';
import { dataRoute } from '../route-config.ts';

const undoRestore = {
  id: 'undoRestore',
  summary: 'Undoes the last restore or undo',
  headers: ['content-encoding'],
  body: {
    mediaTypes: JSON_TYPES,
    schema: undoRequestSchema,
    examples: { plan: { confirm: 'undo', dry_run: true }, undo: { confirm: 'undo' } },
  },
  answers: jsonAnswer(undoReportSchema, 'What the undo did or, with "dry_run", would do.'),
  codes: [...operation, 'invalid_undo_request', 'nothing_to_undo', 'undo_record_damaged'],
} satisfies Operation;

export function registerUndo(
  app: FastifyInstance,
  { store, paceWindowMs }: { store: Pick<Store, 'undo'>; paceWindowMs: number },
): void {
  app.post('/v1/admin/persistence/undo', dataRoute('admin', undoRestore), async (request, reply) => {
    const signal = abortSignalOf(reply);
    const bounds = { mediaTypes: JSON_TYPES, maxDocumentBytes: limits.maxUndoBodyBytes, paceWindowMs };
    const text = await readDocumentBody(request, bounds);
    const context = { requestId: request.id, caller: callerOf(request), signal };
    return await store.undo(checkUndoRequest(JSON.parse(text)), context);
  });
}
