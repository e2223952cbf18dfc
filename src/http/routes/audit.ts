import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { AuditQuery } from '../../domain/audit.ts';
import { scratchKeyFault } from '../../domain/state.ts';
import { LoomError } from '../../errors.ts';
import type { RouteContext } from '../context.ts';
import { abortSignalOf, acceptsType, sendStream } from '../reply/stream.ts';
import { choiceParameter, integerParameter, limitParameter, nameParameter, textParameter } from '../request/query.ts';
import { dataRoute } from '../route-config.ts';

const parameters = ['after', 'before', 'limit', 'order', 'action', 'document'];
const NDJSON = 'application/x-ndjson';

export function registerAudit(app: FastifyInstance, { store }: RouteContext): void {
  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/audit',
    ...dataRoute('client', parameters),
    handler: async (request, reply) => {
      const query = auditQueryOf(request);
      reply.header('vary', 'accept');
      if (acceptsType(request, NDJSON)) {
        reply.type(NDJSON);
        if (request.method === 'HEAD') return reply.send();
        return await sendStream(reply, await store.openAudit(query));
      }
      const { entries, next, head } = await store.readAudit({ ...query, limit: limitParameter(request) });
      // The entries are JSON as PostgreSQL wrote it, which is what their hashes are about: not to be parsed and rewritten.
      const texts = entries.map((entry) => entry.text).join(',');
      const text = `{"entries":[${texts}],"next":${JSON.stringify(next)},"head":${JSON.stringify(head)}}`;
      return reply.type('application/json').send(text);
    },
  });

  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/audit/verify',
    ...dataRoute('admin', ['scratch']),
    handler: async (request, reply) => {
      if (request.method === 'HEAD') return reply.type('application/json').send();
      const scratch = textParameter(request, 'scratch');
      if (scratch !== undefined) assertScratchKey(scratch);
      return reply.send(await store.verifyAudit({ requestId: request.id, signal: abortSignalOf(reply) }, scratch));
    },
  });
}

function assertScratchKey(key: string): void {
  const fault = scratchKeyFault(key);
  if (fault !== undefined) throw new LoomError('scratch_not_found', `There is none: a state key ${fault}.`);
}

function auditQueryOf(request: FastifyRequest): Omit<AuditQuery, 'limit'> {
  const bounds = { least: 0, most: Number.MAX_SAFE_INTEGER };
  const after = integerParameter(request, 'after', bounds);
  const before = integerParameter(request, 'before', bounds);
  const document = nameParameter(request, 'document');
  const action = actionOf(request);
  return {
    order: choiceParameter(request, 'order', ['asc', 'desc']) ?? 'asc',
    ...(after === undefined ? {} : { after }),
    ...(before === undefined ? {} : { before }),
    ...(action === undefined ? {} : { action }),
    ...(document === undefined ? {} : { document }),
  };
}

function actionOf(request: FastifyRequest): string | undefined {
  const action = textParameter(request, 'action');
  if (action === undefined || /^[a-z_]+(?:\.[a-z_]+)*$/.test(action)) return action;
  throw new LoomError('invalid_parameter', 'The query parameter action must be an action such as document.put.');
}
