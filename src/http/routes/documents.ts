import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Change, CommitAction } from '../../domain/commit.ts';
import { assertDocumentName } from '../../domain/document.ts';
import type { DocumentQuery } from '../../domain/store.ts';
import { LoomError } from '../../errors.ts';
import type { RouteContext } from '../context.ts';
import { commitBase, sendReceipt } from '../reply/receipt.ts';
import { isNotModified, readPrecondition } from '../request/entity-tags.ts';
import { type JsonBodyOptions, readDocumentBody } from '../request/json-body.ts';
import { limitParameter, nameParameter, prefixParameter } from '../request/query.ts';
import { dataRoute } from '../route-config.ts';

const DOCUMENT = '/v1/documents/:name';

export function registerDocuments(app: FastifyInstance, context: RouteContext): void {
  registerListing(app, context);
  registerReading(app, context);
  registerWriting(app, context);
}

function registerListing(app: FastifyInstance, { store }: RouteContext): void {
  app.get('/v1/documents', dataRoute('client', ['prefix', 'after', 'limit']), async (request, reply) => {
    const precondition = readPrecondition(request, null);
    const { documents, next, epoch, revision } = await store.listDocuments(listingOf(request));
    if (isNotModified(reply, precondition, { epoch, revision })) return reply.code(304).send();
    return reply.send({ documents, next, epoch, revision });
  });
}

function registerReading(app: FastifyInstance, { store }: RouteContext): void {
  app.get(DOCUMENT, dataRoute('client'), async (request, reply) => {
    const name = nameOf(request);
    const precondition = readPrecondition(request, name);
    const document = await store.readDocument(name);
    if (document === undefined) throw notFound(name);
    if (isNotModified(reply, precondition, document)) return reply.code(304).send();
    reply.header('last-modified', new Date(document.updatedAt).toUTCString());
    return reply.type('application/json').send(document.text);
  });
}

function registerWriting(app: FastifyInstance, { store, config, bodyIdleTimeoutMs }: RouteContext): void {
  const body: Omit<JsonBodyOptions, 'mediaTypes'> = {
    maxDocumentBytes: config.maxDocumentBytes,
    idleMs: bodyIdleTimeoutMs,
  };
  const submit = async (request: FastifyRequest, action: CommitAction, change: Change) =>
    await store.submitCommit({ ...commitBase(request, change.name), action, changes: [change] });

  app.put(DOCUMENT, dataRoute('client'), async (request, reply) => {
    const name = nameOf(request);
    const json = await readDocumentBody(request, { ...body, mediaTypes: ['application/json'] });
    const receipt = await submit(request, 'document.put', { op: 'put', name, json });
    return sendReceipt(reply, receipt, { tagged: true, location: locationOf(name) });
  });

  app.patch(DOCUMENT, dataRoute('client'), async (request, reply) => {
    const name = nameOf(request);
    const mediaTypes = ['application/merge-patch+json', 'application/json'] as const;
    const json = await readDocumentBody(request, { ...body, mediaTypes });
    const receipt = await submit(request, 'document.patch', { op: 'merge', name, json });
    return sendReceipt(reply, receipt, { tagged: true, location: locationOf(name) });
  });

  app.delete(DOCUMENT, dataRoute('client'), async (request, reply) => {
    const name = nameOf(request);
    const receipt = await submit(request, 'document.delete', { op: 'delete', name });
    return sendReceipt(reply, receipt, { tagged: false });
  });
}

/** Decoded by the router, `%2F` and all. */
function nameOf(request: FastifyRequest): string {
  const { params } = request;
  const name: unknown = typeof params === 'object' && params !== null ? Reflect.get(params, 'name') : undefined;
  if (typeof name !== 'string') throw new Error('the route has a name');
  assertDocumentName(name);
  return name;
}

function locationOf(name: string): string {
  return `/v1/documents/${encodeURIComponent(name)}`;
}

function listingOf(request: FastifyRequest): DocumentQuery {
  const prefix = prefixParameter(request, 'prefix');
  const after = nameParameter(request, 'after');
  return {
    limit: limitParameter(request),
    ...(prefix === undefined ? {} : { prefix }),
    ...(after === undefined ? {} : { after }),
  };
}

function notFound(name: string): LoomError {
  return new LoomError('document_not_found', `There is no document ${JSON.stringify(name)}.`, { document: name });
}
