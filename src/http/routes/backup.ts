import { Transform } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { BackupOptions } from '../../domain/backup.ts';
import { LoomError } from '../../errors.ts';
import type { RouteContext } from '../context.ts';
import { abortSignalOf, acceptsGzip, sendStream } from '../reply/stream.ts';
import { booleanParameter, integerParameter } from '../request/query.ts';
import { dataRoute } from '../route-config.ts';

export function registerBackup(app: FastifyInstance, { store, config, log, now }: RouteContext): void {
  app.route({
    method: ['GET', 'HEAD'],
    url: '/v1/admin/persistence/backup',
    ...dataRoute('admin', ['include_audit', 'audit_limit']),
    handler: async (request, reply) => {
      const options = backupOptionsOf(request);
      reply.headers({
        'content-type': 'application/json',
        'content-disposition': `attachment; filename="${fileName(config.postgres.stateKey, now())}"`,
        vary: 'accept-encoding',
      });
      if (request.method === 'HEAD') return reply.send();
      const { body, recordTaken } = await store.openBackup(options, {
        requestId: request.id,
        signal: abortSignalOf(reply),
      });
      const record = async (): Promise<void> => {
        // The backup is whole, whether or not the database can note that it was taken.
        await recordTaken().catch((error: unknown) => {
          log.warn({ err: error, requestId: request.id }, 'a backup was taken, but its time could not be recorded');
        });
      };
      return await sendStream(reply, body, { gzip: acceptsGzip(request), beforeEnd: holdEnd(reply, record) });
    },
  });
}

/**
 * Lets everything through, and holds back only the end of the answer until the reader has taken the last byte and `record`
 * is done: who has a whole backup finds its time in status, and a backup that nobody took is not recorded.
 */
function holdEnd(reply: FastifyReply, record: () => Promise<void>): Transform {
  const { raw } = reply;
  return new Transform({
    transform: (chunk, _encoding, done) => done(null, chunk),
    async flush(done) {
      // Node tells of a buffer that has room again, not of one that is empty: so it is looked at.
      let pauseMs = POLL_FIRST_MS;
      while (!raw.destroyed && (this.readableLength > 0 || raw.writableLength > 0)) {
        await wait(pauseMs);
        pauseMs = Math.min(pauseMs * 2, POLL_MOST_MS);
      }
      if (!raw.destroyed) await record();
      done();
    },
  });
}

const POLL_FIRST_MS = 1;
const POLL_MOST_MS = 200;

function backupOptionsOf(request: FastifyRequest): BackupOptions {
  const auditLimit = integerParameter(request, 'audit_limit', { least: 1, most: Number.MAX_SAFE_INTEGER });
  const includeAudit = booleanParameter(request, 'include_audit', true);
  if (!includeAudit && auditLimit !== undefined) {
    throw new LoomError(
      'invalid_parameter',
      'audit_limit means nothing with include_audit=false: leave one of them out.',
    );
  }
  return {
    includeAudit,
    ...(auditLimit === undefined ? {} : { auditLimit }),
  };
}

/** For example `loom-backup-default-20260131T235959Z.json`: nothing in it can end the quotes or leave a folder. */
function fileName(stateKey: string, time: Date): string {
  const safeKey = stateKey.replace(/[^A-Za-z0-9_-]+/g, '_').slice(0, 64);
  const stamp = time.toISOString().replace(/\.\d+/, '').replace(/[-:]/g, '');
  return `loom-backup-${safeKey}-${stamp}.json`;
}
