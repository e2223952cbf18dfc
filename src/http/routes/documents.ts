import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Change, CommitAction } from '../../domain/commit.ts';
import { assertDocumentName, documentNameSchema, documentPageSchema } from '../../domain/document.ts';
import { jsonValue } from '../../domain/forms.ts';
import { documentHistorySchema } from '../../domain/history.ts';
import type { Store } from '../../domain/store.ts';
import { LoomError } from '../../errors.ts';
import { commit, jsonBody } from '../openapi/codes.ts';
import { commitAnswers, commitHeaders, jsonAnswer, NOT_MODIFIED, type Operation } from '../openapi/operation.ts';
import { sendJsonText } from '../reply/json.ts';
import { sendReceipt } from '../reply/receipt.ts';
import { JSON_TYPES, type MediaTypes, PATCH_TYPES } from '../request/body.ts';
import { readCommitBase } from '../request/commit.ts';
import { isNotModified, readPrecondition } from '../request/entity-tags.ts';
import { type BodyBounds, readDocumentBody } from '../request/json-body.ts';
import { limitParameter, prefixParameter, readQuery, seqParameter, timeRangeParameters } from '../request/query.ts';
import { admitAnswer, dataRoute } from '../route-config.ts';

const DOCUMENT = '/v1/documents/:name';

const named = {
  path: {
    name: documentNameSchema.describe('Name of the document. Write a slash as %2F').meta({ examples: ['greeting'] }),
  },
} as const;

const listDocuments = {
  id: 'listDocuments',
  summary: 'Lists names, revisions and sizes',
  query: z.object({
    prefix: prefixParameter
      .optional()
      .describe('Selects the names that begin with it')
      .meta({ examples: ['greet'] }),
    after: documentNameSchema
      .optional()
      .describe('Selects the names after this one')
      .meta({ examples: ['a'] }),
    limit: limitParameter,
  }),
  headers: ['if-match', 'if-none-match'],
  answers: {
    ...jsonAnswer(documentPageSchema, 'A page of the list. The tag is that of the state.', ['etag']),
    ...NOT_MODIFIED,
  },
  codes: ['precondition_failed'],
} satisfies Operation;

const readDocument = {
  id: 'readDocument',
  summary: 'Returns one document',
  ...named,
  headers: ['if-match', 'if-none-match'],
  answers: { ...jsonAnswer(jsonValue, 'The value.', ['etag', 'last-modified']), ...NOT_MODIFIED },
  codes: ['invalid_document_name', 'document_not_found', 'precondition_failed'],
} satisfies Operation;

const readDocumentHistory = {
  id: 'readDocumentHistory',
  summary: 'Returns who changed the document, when, by which event, and with which result',
  ...named,
  query: z.object({
    before: seqParameter.describe('Selects the changes of earlier entries').meta({ examples: [1000] }),
    limit: limitParameter,
    ...timeRangeParameters,
  }),
  answers: jsonAnswer(documentHistorySchema, 'A page of the history.'),
  codes: ['invalid_document_name', 'document_not_found'],
} satisfies Operation;

const writing = { ...named, headers: commitHeaders } as const;

const putDocument = {
  id: 'putDocument',
  summary: 'Creates or replaces a document',
  ...writing,
  body: { mediaTypes: JSON_TYPES, schema: jsonValue, examples: { greeting: { text: 'hello' } } },
  answers: commitAnswers({ creates: true, tagged: true }),
  codes: [...jsonBody, ...commit, 'invalid_document_name'],
} satisfies Operation;

const patchDocument = {
  id: 'patchDocument',
  summary: 'Merges into a document, or creates it (RFC 7396)',
  ...writing,
  body: { mediaTypes: PATCH_TYPES, schema: jsonValue, examples: { language: { lang: 'en' } } },
  answers: commitAnswers({ creates: true, tagged: true }),
  codes: [...jsonBody, ...commit, 'invalid_document_name'],
} satisfies Operation;

const deleteDocument = {
  id: 'deleteDocument',
  summary: 'Deletes a document',
  ...writing,
  answers: commitAnswers({ creates: false, tagged: false }),
  codes: [...commit, 'invalid_document_name', 'document_not_found'],
} satisfies Operation;

interface DocumentRouteParts {
  store: Pick<Store, 'listDocuments' | 'readDocument' | 'readHistory' | 'submitCommit'>;
  bodyBounds: BodyBounds;
}

export function registerDocuments(app: FastifyInstance, parts: DocumentRouteParts): void {
  registerReading(app, parts);
  registerWriting(app, parts);
}

function registerReading(app: FastifyInstance, { store }: DocumentRouteParts): void {
  app.get('/v1/documents', dataRoute('client', listDocuments), async (request, reply) => {
    const precondition = readPrecondition(request.headers, null);
    const page = await store.listDocuments(readQuery(request, listDocuments.query));
    return isNotModified(reply, precondition, page) ? reply.code(304).send() : reply.send(page);
  });

  app.get(DOCUMENT, dataRoute('client', readDocument), async (request, reply) => {
    const name = readDocumentName(request);
    const precondition = readPrecondition(request.headers, name);
    const document = await store.readDocument(name, admitAnswer(request));
    if (document === undefined) {
      throw new LoomError('document_not_found', `Document ${JSON.stringify(name)} does not exist.`, { document: name });
    }
    if (isNotModified(reply, precondition, document)) return reply.code(304).send();
    reply.header('last-modified', new Date(document.updatedAt).toUTCString());
    return sendJsonText(reply, document.text);
  });

  app.get(`${DOCUMENT}/history`, dataRoute('client', readDocumentHistory), async (request) => {
    const name = readDocumentName(request);
    const history = await store.readHistory(name, readQuery(request, readDocumentHistory.query));
    if (history !== undefined) return history;
    const detail = `The audit trail has no change of a document ${JSON.stringify(name)}.`;
    throw new LoomError('document_not_found', detail, { document: name });
  });
}

function registerWriting(app: FastifyInstance, { store, bodyBounds }: DocumentRouteParts): void {
  const submit = (request: FastifyRequest, action: CommitAction, change: Change) =>
    request.memory.body.keepDuring(
      store.submitCommit({ action, changes: [change], ...readCommitBase(request, change.name) }),
    );

  async function write(request: FastifyRequest, reply: FastifyReply, op: 'put' | 'merge', mediaTypes: MediaTypes) {
    const name = readDocumentName(request);
    const json = await readDocumentBody(request, { mediaTypes, ...bodyBounds });
    const receipt = await submit(request, op === 'put' ? 'document.put' : 'document.patch', { op, name, json });
    return sendReceipt(reply, receipt, { tagged: true, location: `/v1/documents/${encodeURIComponent(name)}` });
  }

  app.put(DOCUMENT, dataRoute('client', putDocument), (request, reply) => write(request, reply, 'put', JSON_TYPES));
  app.patch(DOCUMENT, dataRoute('client', patchDocument), (request, reply) =>
    write(request, reply, 'merge', PATCH_TYPES),
  );
  app.delete(DOCUMENT, dataRoute('client', deleteDocument), async (request, reply) => {
    const name = readDocumentName(request);
    const receipt = await submit(request, 'document.delete', { op: 'delete', name });
    return sendReceipt(reply, receipt, { tagged: false });
  });
}

/** Returns the name in the path, which the router has percent-decoded, including `%2F`. */
function readDocumentName({ params }: FastifyRequest): string {
  const name: unknown = typeof params === 'object' && params !== null ? Reflect.get(params, 'name') : undefined;
  if (typeof name !== 'string') throw new Error('the route has no parameter "name"');
  assertDocumentName(name);
  return name;
}
