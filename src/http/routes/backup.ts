import { Transform } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { backupSchema } from '../../backup/check/backup-schema.ts';
import type { BackupOptions } from '../../domain/backup.ts';
import type { Store } from '../../domain/store.ts';
import { LoomError } from '../../errors.ts';
import type { Log } from '../../log.ts';
import type { Operation } from '../openapi/operation.ts';
import { abortSignalOf, acceptsGzip, sendStream } from '../reply/stream.ts';
import { booleanParameter, integerParameter, readQuery } from '../request/query.ts';
import { assertScratchKey, scratchParameter } from '../request/scratch-key.ts';
import { dataRoute } from '../route-config.ts';

const readBackup = {
  id: 'readBackup',
  summary: 'Exports a backup',
  description:
    'The node streams the backup from one snapshot. If the export fails midway, the node closes the connection, and ' +
    'the manifest, which is the last member, is missing.',
  query: z.object({
    include_audit: booleanParameter.default(true).describe('Whether to include the audit trail'),
    audit_limit: integerParameter({ min: 1 })
      .optional()
      .describe('Includes only the last entries, up to this number')
      .meta({ examples: [1000] }),
    scratch: scratchParameter.describe('Names a scratch state to export instead'),
  }),
  headers: ['accept-encoding'],
  answers: {
    200: {
      description: 'The backup.',
      headers: ['content-disposition', 'content-encoding', 'vary'],
      content: { 'application/json': backupSchema },
    },
  },
  codes: ['scratch_not_found', 'streams_busy'],
} satisfies Operation;

export function registerBackup(
  app: FastifyInstance,
  { store, stateKey, log }: { store: Pick<Store, 'openBackup'>; stateKey: string; log: Log },
): void {
  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/admin/persistence/backup',
    ...dataRoute('admin', readBackup),
    handler: async (request, reply) => {
      const options = readBackupOptions(request);
      reply.headers({
        'content-type': 'application/json',
        'content-disposition': `attachment; filename="${toFileName(options.scratch ?? stateKey, new Date())}"`,
        vary: 'accept-encoding',
      });
      if (request.method === 'HEAD') return reply.send();
      const context = { requestId: request.id, signal: abortSignalOf(reply) };
      const { body, recordTaken } = await store.openBackup(options, context);
      const record = () =>
        recordTaken().catch((error: unknown) => {
          // The backup itself is complete.
          log.warn({ err: error, requestId: request.id }, 'backup taken, but its time could not be recorded');
        });
      return await sendStream(reply, body, { gzip: acceptsGzip(request), beforeEnd: delayEnd(reply, record) });
    },
  });
}

/**
 * Passes all bytes through. Delays the end of the answer until the socket has accepted the last byte and `record` has
 * finished. So status shows the time as soon as a client has the whole backup, and ignores an aborted download.
 */
function delayEnd(reply: FastifyReply, record: () => Promise<void>): Transform {
  const { raw } = reply;
  return new Transform({
    transform: (chunk, _encoding, done) => done(null, chunk),
    async flush(done) {
      // Node emits an event when a buffer has room again, and none when it is empty. So this polls.
      let pauseMs = MIN_POLL_MS;
      while (!raw.destroyed && (this.readableLength > 0 || raw.writableLength > 0)) {
        await wait(pauseMs);
        pauseMs = Math.min(pauseMs * 2, MAX_POLL_MS);
      }
      if (!raw.destroyed) await record();
      done();
    },
  });
}

const MIN_POLL_MS = 1;
const MAX_POLL_MS = 200;

function readBackupOptions(request: FastifyRequest): BackupOptions {
  const { include_audit: includeAudit, audit_limit: auditLimit, scratch } = readQuery(request, readBackup.query);
  if (!includeAudit && auditLimit !== undefined) {
    const detail = 'The query parameter audit_limit has no meaning with include_audit=false. Remove one of them.';
    throw new LoomError('invalid_parameter', detail);
  }
  if (scratch !== undefined) assertScratchKey(scratch);
  return { includeAudit, auditLimit, scratch };
}

/** Returns a file name without special characters, such as `loom-backup-default-20260131T235959Z.json`. */
function toFileName(stateKey: string, time: Date): string {
  const safeKey = stateKey.replace(/[^A-Za-z0-9_-]+/g, '_').slice(0, 64);
  const stamp = time.toISOString().replace(/\.\d+/, '').replace(/[-:]/g, '');
  return `loom-backup-${safeKey}-${stamp}.json`;
}
