import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Change } from '../../domain/commit.ts';
import type { CapturedValue } from '../../json/visit.ts';
import type { RouteContext } from '../context.ts';
import { commitBase, sendReceipt } from '../reply/receipt.ts';
import { sendStream } from '../reply/stream.ts';
import { isNotModified, readPrecondition } from '../request/entity-tags.ts';
import { type JsonBodyOptions, readStateBody } from '../request/json-body.ts';
import { dataRoute } from '../route-config.ts';

const STATE = '/v1/state';

export function registerState(app: FastifyInstance, context: RouteContext): void {
  const { store, config, bodyIdleTimeoutMs } = context;
  const body: Omit<JsonBodyOptions, 'mediaTypes'> = {
    maxDocumentBytes: config.maxDocumentBytes,
    idleMs: bodyIdleTimeoutMs,
  };

  app.route({
    method: ['GET', 'HEAD'],
    url: STATE,
    ...dataRoute('client'),
    handler: (request, reply) => readState(request, reply, context),
  });

  app.patch(STATE, dataRoute('client'), async (request, reply) => {
    const mediaTypes = ['application/merge-patch+json', 'application/json'] as const;
    const changes = await readStateBody(request, { ...body, mediaTypes }, patchOf);
    const receipt = await store.submitCommit({ ...commitBase(request, null), action: 'state.patch', changes });
    return sendReceipt(reply, receipt, { tagged: true });
  });

  app.put(STATE, dataRoute('client'), async (request, reply) => {
    const changes = await readStateBody(request, { ...body, mediaTypes: ['application/json'] }, putOf);
    const receipt = await store.submitCommit({ ...commitBase(request, null), action: 'state.put', changes });
    return sendReceipt(reply, receipt, { tagged: true });
  });
}

async function readState(
  request: FastifyRequest,
  reply: FastifyReply,
  { store }: Pick<RouteContext, 'store'>,
): Promise<FastifyReply> {
  const precondition = readPrecondition(request, null);
  reply.type('application/json');
  // The head alone answers what needs no documents.
  if (precondition !== undefined || request.method === 'HEAD') {
    if (isNotModified(reply, precondition, await store.readHead())) return reply.code(304).send();
    if (request.method === 'HEAD') return reply.send();
  }
  const snapshot = await store.openState();
  try {
    // It may have changed since the head was read.
    if (isNotModified(reply, precondition, snapshot)) {
      snapshot.body.destroy();
      return reply.code(304).send();
    }
  } catch (error) {
    snapshot.body.destroy();
    throw error;
  }
  return await sendStream(reply, snapshot.body);
}

/** RFC 7396 over the object of all documents: null takes a document away, an object is merged into it, all else replaces it. */
function patchOf(name: string, { type, text }: CapturedValue): Change {
  if (type === 'null') return { op: 'delete', name };
  return { op: type === 'object' ? 'merge' : 'put', name, json: text.toString('utf8') };
}

function putOf(name: string, { text }: CapturedValue): Change {
  return { op: 'put', name, json: text.toString('utf8') };
}
