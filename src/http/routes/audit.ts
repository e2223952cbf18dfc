import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import {
  type AuditQuery,
  auditActions,
  auditEntrySchema,
  auditPageSchema,
  auditVerdictSchema,
} from '../../domain/audit.ts';
import { documentNameSchema } from '../../domain/document.ts';
import type { Admit, AuditPage, Store } from '../../domain/store.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { jsonAnswer, type Operation } from '../openapi/operation.ts';
import { sendJsonText } from '../reply/json.ts';
import { abortSignalOf, acceptsType, sendStream } from '../reply/stream.ts';
import { choiceParameter, limitParameter, readQuery, seqParameter, timeRangeParameters } from '../request/query.ts';
import { assertScratchKey, scratchParameter } from '../request/scratch-key.ts';
import { admitAnswer, dataRoute } from '../route-config.ts';

const NDJSON = 'application/x-ndjson';

/** Defines the parameters of both forms of the answer. */
const filters = z.object({
  after: seqParameter.describe('Selects later entries').meta({ examples: [0] }),
  before: seqParameter.describe('Selects earlier entries').meta({ examples: [1000] }),
  order: choiceParameter(['asc', 'desc']).default('asc').describe('By seq'),
  action: z
    .string()
    .optional()
    .describe(`Selects entries with this action: ${auditActions.join(', ')}, or one that an entry has`)
    .meta({ examples: ['document.put'] }),
  document: documentNameSchema
    .optional()
    .describe('Selects the entries that change this document, and the restores and undos that may have changed it')
    .meta({ examples: ['greeting'] }),
  ...timeRangeParameters,
});

const readAudit = {
  id: 'readAudit',
  summary: 'Returns the audit trail',
  query: filters.extend({ limit: limitParameter.describe('The maximum number of entries of a page, not of a stream') }),
  answers: {
    200: {
      description: `A page of entries; with "Accept: ${NDJSON}" a stream of all selected entries, one a line.`,
      headers: ['vary'],
      content: { 'application/json': auditPageSchema, [NDJSON]: auditEntrySchema },
    },
  },
  codes: ['streams_busy'],
} satisfies Operation;

const verifyAudit = {
  id: 'verifyAudit',
  summary: 'Checks the whole chain, and the state against it',
  query: z.object({ scratch: scratchParameter.describe('Names a scratch state to check instead') }),
  answers: jsonAnswer(auditVerdictSchema, 'The verdict, also if it found a fault.'),
  codes: ['scratch_not_found', 'streams_busy'],
} satisfies Operation;

export function registerAudit(
  app: FastifyInstance,
  { store }: { store: Pick<Store, 'openAudit' | 'readAudit' | 'verifyAudit'> },
): void {
  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/audit',
    ...dataRoute('client', readAudit),
    handler: async (request, reply) => {
      const query = readQuery(request, filters);
      const admit = admitAnswer(request);
      await assertKnownAction(query, store, admit);
      reply.header('vary', 'accept');
      if (acceptsType(request, NDJSON)) {
        reply.type(NDJSON);
        if (request.method === 'HEAD') return reply.send();
        return await sendStream(reply, await store.openAudit(query, abortSignalOf(reply)));
      }
      const page = await store.readAudit(readQuery(request, readAudit.query), admit);
      return sendJsonText(reply, toText(page));
    },
  });

  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/audit/verify',
    ...dataRoute('admin', verifyAudit),
    handler: async (request, reply) => {
      if (request.method === 'HEAD') return reply.type('application/json').send();
      const { scratch } = readQuery(request, verifyAudit.query);
      if (scratch !== undefined) assertScratchKey(scratch);
      return reply.send(await store.verifyAudit({ requestId: request.id, signal: abortSignalOf(reply) }, scratch));
    },
  });
}

function toText({ entries, ...rest }: AuditPage): string {
  return `{"entries":[${entries.map(({ text }) => text).join(',')}],${JSON.stringify(rest).slice(1)}`;
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
