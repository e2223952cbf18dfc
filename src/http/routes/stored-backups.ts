import { type Readable, Transform } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { checkDeleteRequest } from '../../backup/check/request.ts';
import {
  type BackupRun,
  backupRunListSchema,
  backupRunSchema,
  deletedBackupSchema,
  type StartedRun,
  type StoredBackup,
  type StoredBackups,
  storedBackupPageSchema,
  storeNotConfigured,
} from '../../domain/backup-run.ts';
import type { MemoryShare } from '../../domain/memory.ts';
import { deleteRequestSchema } from '../../domain/request.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { jsonBody, storedBackup } from '../openapi/codes.ts';
import { storedBytesSchema } from '../openapi/components.ts';
import { jsonAnswer, NOT_MODIFIED, type Operation } from '../openapi/operation.ts';
import { abortSignalOf, closeAfterAnswer, sendStream } from '../reply/stream.ts';
import { hasBody, JSON_TYPES } from '../request/body.ts';
import { hasCurrentContent } from '../request/entity-tags.ts';
import { readDocumentBody } from '../request/json-body.ts';
import { preferredWaitSeconds } from '../request/prefer.ts';
import { limitParameter, readQuery } from '../request/query.ts';
import { dataRoute } from '../route-config.ts';

const GZIP = 'application/gzip';
/** No media type is registered for the format of age. */
const ENCRYPTED = 'application/octet-stream';
const BACKUP = '/v1/admin/backups/:name';
const RUNS = '/v1/admin/backups/runs';

const nameParameter = z
  .string()
  .describe('Name of the stored backup, percent-encoded')
  .meta({ examples: ['loom-default-20261125T225728.451Z-r17.json.gz'] });

const runAnswers = {
  200: {
    description: 'The run has ended within the preferred time. Its outcome says how.',
    headers: ['location', 'preference-applied'],
    content: { 'application/json': backupRunSchema },
  },
  202: {
    description: 'The run has begun. The header location has its path.',
    headers: ['location', 'preference-applied'],
    content: { 'application/json': backupRunSchema },
  },
} as const satisfies Operation['answers'];

const listStoredBackups = {
  id: 'listStoredBackups',
  summary: 'Lists the stored backups, newest first',
  query: z.object({
    limit: limitParameter,
    before: z
      .string()
      .optional()
      .describe('Selects the backups before this one: the name of the last one seen')
      .meta({ examples: nameParameter.meta()?.examples }),
  }),
  answers: jsonAnswer(storedBackupPageSchema, 'One page of the catalogue.'),
  codes: ['store_not_configured'],
} satisfies Operation;

const takeStoredBackup = {
  id: 'takeStoredBackup',
  summary: 'Takes a backup into the store and proves it',
  headers: ['prefer'],
  answers: runAnswers,
  codes: ['store_not_configured', 'backup_running', 'unsupported_media_type'],
} satisfies Operation;

const listBackupRuns = {
  id: 'listBackupRuns',
  summary: 'Lists the runs of backups and drills, newest first',
  query: z.object({ limit: limitParameter }),
  answers: jsonAnswer(backupRunListSchema, 'The newest runs.'),
  codes: ['store_not_configured'],
} satisfies Operation;

const readBackupRun = {
  id: 'readBackupRun',
  summary: 'Returns one run',
  path: {
    id: z
      .string()
      .describe('Id of the run')
      .meta({ examples: ['01a214ed-a53e-7cec-a3cc-fe25a65bce35'] }),
  },
  answers: jsonAnswer(backupRunSchema, 'The run.'),
  codes: ['store_not_configured', 'run_not_found'],
} satisfies Operation;

const readStoredBackup = {
  id: 'readStoredBackup',
  summary: 'Returns a stored backup as it lies in the store',
  description:
    'The node does not decrypt or decompress it. It compares the bytes with the etag, the digest of what was written, ' +
    'and breaks the transfer off before its end if they differ. It sends no ranges.',
  path: { name: nameParameter },
  headers: ['if-none-match'],
  answers: {
    200: {
      description: `The stored bytes: ${GZIP}, or ${ENCRYPTED} if the backup is encrypted with age.`,
      headers: ['etag', 'content-disposition', 'accept-ranges'],
      content: { [GZIP]: storedBytesSchema, [ENCRYPTED]: storedBytesSchema },
    },
    ...NOT_MODIFIED,
  },
  codes: [...storedBackup, 'invalid_parameter'],
} satisfies Operation;

const deleteStoredBackup = {
  id: 'deleteStoredBackup',
  summary: 'Deletes a stored backup',
  description: 'The newest proven backup, the last one, and one in use cannot be deleted.',
  path: { name: nameParameter },
  headers: ['content-encoding'],
  body: { mediaTypes: JSON_TYPES, schema: deleteRequestSchema, examples: { delete: { confirm: 'delete' } } },
  answers: jsonAnswer(deletedBackupSchema, 'The backup is gone from the store and from the catalogue.'),
  codes: [
    ...jsonBody,
    ...storedBackup,
    'confirm_missing',
    'invalid_delete_request',
    'stored_backup_kept',
    'store_shared',
  ],
} satisfies Operation;

const drillStoredBackup = {
  id: 'drillStoredBackup',
  summary: 'Proves a stored backup again',
  description: 'The run reads the backup back, restores it into a scratch state, and compares.',
  path: { name: nameParameter },
  headers: ['prefer'],
  answers: runAnswers,
  codes: ['store_not_configured', 'stored_backup_not_found', 'backup_running', 'unsupported_media_type'],
} satisfies Operation;

interface StoredBackupRouteParts {
  /** Undefined without a store: each route then answers `store_not_configured`. */
  storedBackups: StoredBackups | undefined;
  paceWindowMs: number;
}

type Named = { Params: { name: string } };

export function registerStoredBackups(app: FastifyInstance, parts: StoredBackupRouteParts): void {
  const backups = (): StoredBackups => {
    if (parts.storedBackups === undefined) throw storeNotConfigured();
    return parts.storedBackups;
  };

  app.get('/v1/admin/backups', dataRoute('admin', listStoredBackups), async (request) => {
    const { limit, before } = readQuery(request, listStoredBackups.query);
    const found = await backups().list({ limit: limit + 1, before });
    const page = found.slice(0, limit);
    return { backups: page, next: found.length > limit ? (page.at(-1)?.name ?? null) : null };
  });

  app.post('/v1/admin/backups', dataRoute('admin', takeStoredBackup), async (request, reply) =>
    sendRun(request, reply, await backups().take()),
  );

  app.get(RUNS, dataRoute('admin', listBackupRuns), async (request) => {
    const { limit } = readQuery(request, listBackupRuns.query);
    return { runs: await backups().listRuns({ limit }) };
  });

  app.get<{ Params: { id: string } }>(`${RUNS}/:id`, dataRoute('admin', readBackupRun), async ({ params }) => {
    const { readRun } = backups();
    const run = isRunId(params.id) ? await readRun(params.id.toLowerCase()) : undefined;
    if (run === undefined) throw runNotFound();
    return run;
  });

  app.route<Named>({
    method: ['GET', 'HEAD'],
    url: BACKUP,
    ...namedRoute(readStoredBackup),
    handler: async (request, reply) => {
      const { backup, body } = await backups().open(request.params.name, abortSignalOf(reply));
      closeAfterAnswer(reply, body);
      const { sha256 } = backup;
      if (sha256 !== null && hasCurrentContent(request.headers, `"${sha256}"`)) {
        return reply.code(304).header('etag', `"${sha256}"`).send();
      }
      if (request.method === 'HEAD') return reply.headers(headersOf(backup)).send();
      const counter = chargeDownload(request.memory.answer, backup, body);
      reply.headers(headersOf(backup));
      return await sendStream(reply, body, { beforeEnd: counter });
    },
  });

  app.delete<Named>(BACKUP, namedRoute(deleteStoredBackup), async (request) => {
    const { paceWindowMs } = parts;
    const { name } = request.params;
    const found = backups();
    const bounds = { mediaTypes: JSON_TYPES, maxDocumentBytes: limits.maxDeleteBodyBytes, paceWindowMs };
    // Most clients send no body with DELETE. The answer then asks for the confirmation, not for JSON.
    checkDeleteRequest(hasBody(request.raw) ? JSON.parse(await readDocumentBody(request, bounds)) : {});
    await found.remove(name);
    return { name };
  });

  app.post<Named>(`${BACKUP}/drill`, namedRoute(drillStoredBackup), async (request, reply) =>
    sendRun(request, reply, await backups().drill(request.params.name)),
  );
}

/**
 * Returns the options of a route with the name of a backup. The router also takes this route for an empty name, and for
 * a method that the path of the runs does not have. Both are answered as without a route: 404 and 405.
 */
function namedRoute(operation: Operation) {
  return {
    ...dataRoute('admin', operation),
    preHandler: ({ params }: FastifyRequest<Named>, reply: FastifyReply, done: () => void): void => {
      if (params.name === '' || params.name === 'runs') reply.callNotFound();
      else done();
    },
  };
}

/**
 * Charges the buffers of a download, and returns a stream that counts what the client takes. If others need the memory
 * and this client is slow, the download breaks off.
 */
function chargeDownload(share: MemoryShare, { bytes }: StoredBackup, body: Readable): Transform {
  share.resize(Math.min(limits.answerMemoryFactor * (bytes ?? 0), limits.storedDownloadBytes));
  share.makeReclaimable((error) => body.destroy(error));
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      share.countMoved(chunk.length);
      done(null, chunk);
    },
  });
}

/** Answers 202 with the run, or 200 if it ends while the client prefers to wait. It goes on without the client. */
async function sendRun(request: FastifyRequest, reply: FastifyReply, started: StartedRun): Promise<FastifyReply> {
  const waitSeconds = preferredWaitSeconds(request);
  reply.header('location', `${RUNS}/${started.run.id}`);
  // A run whose end could not be recorded is for its reader to judge: the node answers with the run as it began.
  const known = started.ended.catch(() => undefined);
  if (waitSeconds === undefined) return reply.code(202).send(started.run);
  reply.header('preference-applied', `wait=${waitSeconds}`);
  const ended = await endWithin(known, waitSeconds, abortSignalOf(reply));
  // The run of a node that shuts down goes on elsewhere.
  const hasEnded = ended !== undefined && ended.outcome !== 'running';
  return reply.code(hasEnded ? 200 : 202).send(ended ?? started.run);
}

/** Resolves with the ended run, or with undefined if it has not ended in time. */
async function endWithin(
  ended: Promise<BackupRun | undefined>,
  seconds: number,
  gone: AbortSignal,
): Promise<BackupRun | undefined> {
  const settled = new AbortController();
  const signal = AbortSignal.any([settled.signal, gone]);
  const late = sleep(seconds * 1000, undefined, { signal }).catch(() => undefined);
  try {
    return await Promise.race([ended, late]);
  } finally {
    settled.abort();
  }
}

function isRunId(text: string): boolean {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text);
}

function runNotFound(): LoomError {
  const detail = `The state has no run with this id. See GET ${RUNS}; old runs without a backup are removed.`;
  return new LoomError('run_not_found', detail);
}

function headersOf({ name, encrypted, bytes, sha256 }: StoredBackup): Record<string, string> {
  return {
    'content-type': encrypted ? ENCRYPTED : GZIP,
    'content-disposition': `attachment; filename="${name}"`,
    // A part of the bytes cannot be compared with their digest.
    'accept-ranges': 'none',
    ...(sha256 === null ? {} : { etag: `"${sha256}"` }),
    ...(bytes === null ? {} : { 'content-length': String(bytes) }),
  };
}
