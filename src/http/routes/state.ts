import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Change } from '../../domain/commit.ts';
import { documentsByName } from '../../domain/forms.ts';
import type { Store } from '../../domain/store.ts';
import type { CapturedValue } from '../../json/visit.ts';
import { commit, jsonBody } from '../openapi/codes.ts';
import { commitAnswers, commitHeaders, jsonAnswer, NOT_MODIFIED, type Operation } from '../openapi/operation.ts';
import { sendReceipt } from '../reply/receipt.ts';
import { abortSignalOf, closeAfterAnswer, sendStream } from '../reply/stream.ts';
import { JSON_TYPES, PATCH_TYPES } from '../request/body.ts';
import { readCommitBase } from '../request/commit.ts';
import { isNotModified, readPrecondition } from '../request/entity-tags.ts';
import { type BodyBounds, readStateBody } from '../request/json-body.ts';
import { dataRoute } from '../route-config.ts';

const STATE = '/v1/state';

const readState = {
  id: 'readState',
  summary: 'Returns all documents as one object',
  description:
    'The node streams the documents as they are at one instant. If it fails midway, it closes the connection.',
  headers: ['if-match', 'if-none-match'],
  answers: { ...jsonAnswer(documentsByName, 'All documents, by name.', ['etag']), ...NOT_MODIFIED },
  codes: ['precondition_failed', 'streams_busy'],
} satisfies Operation;

const writing = {
  headers: commitHeaders,
  answers: commitAnswers({ creates: false, tagged: true }),
  codes: [...jsonBody, ...commit, 'invalid_document_name', 'state_not_object', 'too_many_changes'],
} as const;

const patchState = {
  id: 'patchState',
  summary: 'Merges into several documents in one commit (RFC 7396)',
  body: {
    mediaTypes: PATCH_TYPES,
    schema: documentsByName,
    examples: { changes: { greeting: { text: 'hello' }, farewell: null } },
  },
  ...writing,
} satisfies Operation;

const putState = {
  id: 'putState',
  summary: 'Replaces all documents in one commit',
  body: { mediaTypes: JSON_TYPES, schema: documentsByName, examples: { state: { greeting: { text: 'hello' } } } },
  ...writing,
} satisfies Operation;

type StateStore = Pick<Store, 'openState' | 'readHead' | 'submitCommit'>;

export function registerState(
  app: FastifyInstance,
  { store, bodyBounds }: { store: StateStore; bodyBounds: BodyBounds },
): void {
  app.route({
    method: ['GET', 'HEAD'],
    url: STATE,
    ...dataRoute('client', readState),
    handler: (request, reply) => sendState(request, reply, store),
  });

  app.patch(STATE, dataRoute('client', patchState), async (request, reply) => {
    const changes = await readStateBody(request, { mediaTypes: PATCH_TYPES, ...bodyBounds }, toPatch);
    const commit = store.submitCommit({ action: 'state.patch', changes, ...readCommitBase(request, null) });
    const receipt = await request.memory.body.keepDuring(commit);
    return sendReceipt(reply, receipt, { tagged: true });
  });

  app.put(STATE, dataRoute('client', putState), async (request, reply) => {
    const changes = await readStateBody(request, { mediaTypes: JSON_TYPES, ...bodyBounds }, toPut);
    const commit = store.submitCommit({ action: 'state.put', changes, ...readCommitBase(request, null) });
    const receipt = await request.memory.body.keepDuring(commit);
    return sendReceipt(reply, receipt, { tagged: true });
  });
}

async function sendState(request: FastifyRequest, reply: FastifyReply, store: StateStore): Promise<FastifyReply> {
  const precondition = readPrecondition(request.headers, null);
  reply.type('application/json');
  // HEAD and most preconditions need only the head, and no document.
  if (precondition !== undefined || request.method === 'HEAD') {
    if (isNotModified(reply, precondition, await store.readHead())) return reply.code(304).send();
    if (request.method === 'HEAD') return reply.send();
  }
  const stream = await store.openState(abortSignalOf(reply));
  closeAfterAnswer(reply, stream.body);
  // The state may have changed since the head was read.
  if (isNotModified(reply, precondition, stream)) return reply.code(304).send();
  return await sendStream(reply, stream.body);
}

/** Applies RFC 7396 to the object of all documents: null deletes, an object merges, any other value replaces. */
function toPatch(name: string, { type, text }: CapturedValue): Change {
  if (type === 'null') return { op: 'delete', name };
  return { op: type === 'object' ? 'merge' : 'put', name, json: text.toString('utf8') };
}

function toPut(name: string, { text }: CapturedValue): Change {
  return { op: 'put', name, json: text.toString('utf8') };
}
