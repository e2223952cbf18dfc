import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Change, CommitAction } from '../../domain/commit.ts';
import { assertDocumentName } from '../../domain/document.ts';
import type { Store } from '../../domain/store.ts';
import { LoomError } from '../../errors.ts';
import { sendJsonText } from '../reply/json.ts';
import { sendReceipt } from '../reply/receipt.ts';
import { JSON_TYPES, type MediaTypes, PATCH_TYPES } from '../request/body.ts';
import { readCommitBase } from '../request/commit.ts';
import { isNotModified, readPrecondition } from '../request/entity-tags.ts';
import { type BodyBounds, readDocumentBody } from '../request/json-body.ts';
import {
  integerParameter,
  limitParameter,
  nameParameter,
  prefixParameter,
  timeRangeParameters,
} from '../request/query.ts';
import { admitAnswer, dataRoute } from '../route-config.ts';

const DOCUMENT = '/v1/documents/:name';

interface DocumentRouteParts {
  store: Pick<Store, 'listDocuments' | 'readDocument' | 'readHistory' | 'submitCommit'>;
  bodyBounds: BodyBounds;
}

export function registerDocuments(app: FastifyInstance, parts: DocumentRouteParts): void {
  registerReading(app, parts);
  registerWriting(app, parts);
}

function registerReading(app: FastifyInstance, { store }: DocumentRouteParts): void {
  app.get('/v1/documents', dataRoute('client', ['prefix', 'after', 'limit']), async (request, reply) => {
    const precondition = readPrecondition(request.headers, null);
    const page = await store.listDocuments({
      prefix: prefixParameter(request, 'prefix'),
      after: nameParameter(request, 'after'),
      limit: limitParameter(request),
    });
    return isNotModified(reply, precondition, page) ? reply.code(304).send() : reply.send(page);
  });

  app.get(DOCUMENT, dataRoute('client'), async (request, reply) => {
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

  app.get(`${DOCUMENT}/history`, dataRoute('client', ['before', 'limit', 'since', 'until']), async (request) => {
    const name = readDocumentName(request);
    const history = await store.readHistory(name, {
      before: integerParameter(request, 'before', { min: 0 }),
      limit: limitParameter(request),
      ...timeRangeParameters(request),
    });
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

  app.put(DOCUMENT, dataRoute('client'), (request, reply) => write(request, reply, 'put', JSON_TYPES));
  app.patch(DOCUMENT, dataRoute('client'), (request, reply) => write(request, reply, 'merge', PATCH_TYPES));
  app.delete(DOCUMENT, dataRoute('client'), async (request, reply) => {
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
