import type { FastifyInstance, FastifyRequest } from 'fastify';
import { type AuditQuery, auditActions } from '../../domain/audit.ts';
import type { Admit, AuditPage, Store } from '../../domain/store.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { sendJsonText } from '../reply/json.ts';
import { abortSignalOf, acceptsType, sendStream } from '../reply/stream.ts';
import {
  choiceParameter,
  integerParameter,
  limitParameter,
  nameParameter,
  textParameter,
  timeRangeParameters,
} from '../request/query.ts';
import { assertScratchKey } from '../request/scratch-key.ts';
import { admitAnswer, dataRoute } from '../route-config.ts';

const parameters = ['after', 'before', 'limit', 'order', 'action', 'document', 'since', 'until'];
const NDJSON = 'application/x-ndjson';

export function registerAudit(
  app: FastifyInstance,
  { store }: { store: Pick<Store, 'openAudit' | 'readAudit' | 'verifyAudit'> },
): void {
  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/audit',
    ...dataRoute('client', parameters),
    handler: async (request, reply) => {
      const query = readAuditQuery(request);
      const admit = admitAnswer(request);
      await assertKnownAction(query, store, admit);
      reply.header('vary', 'accept');
      if (acceptsType(request, NDJSON)) {
        reply.type(NDJSON);
        if (request.method === 'HEAD') return reply.send();
        return await sendStream(reply, await store.openAudit(query, abortSignalOf(reply)));
      }
      const page = await store.readAudit({ ...query, limit: limitParameter(request) }, admit);
      return sendJsonText(reply, toText(page));
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

function toText({ entries, ...rest }: AuditPage): string {
  return `{"entries":[${entries.map(({ text }) => text).join(',')}],${JSON.stringify(rest).slice(1)}`;
}

function readAuditQuery(request: FastifyRequest): Omit<AuditQuery, 'limit'> {
  return {
    after: integerParameter(request, 'after', { min: 0 }),
    before: integerParameter(request, 'before', { min: 0 }),
    document: nameParameter(request, 'document'),
    action: textParameter(request, 'action'),
    order: choiceParameter(request, 'order', ['asc', 'desc']) ?? 'asc',
    ...timeRangeParameters(request),
  };
}

/** Refuses a mistyped action. A trail that was restored from another program may have actions of its own. */
async function assertKnownAction(
  { action }: Pick<AuditQuery, 'action'>,
  store: Pick<Store, 'readAudit'>,
  admit: Admit,
): Promise<void> {
  if (action === undefined || auditActions.some((known) => known === action)) return;
  const isPossible = action.length <= limits.maxActionCharacters && /^[a-z_.]+$/.test(action);
  const found = isPossible && (await store.readAudit({ action, limit: 1, order: 'asc' }, admit)).entries.length > 0;
  // A stream that follows must not keep the memory of this entry.
  admit(0);
  if (found) return;
  const detail = `No audit entry has the action in the query. LOOM's actions are ${auditActions.join(', ')}.`;
  throw new LoomError('invalid_parameter', detail);
}
