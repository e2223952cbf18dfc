import type { FastifyInstance } from 'fastify';
import { restoreBodySchema } from '../../backup/check/backup-schema.ts';
import { restoreReportSchema } from '../../domain/backup.ts';
import type { StoredBackups } from '../../domain/backup-run.ts';
import type { Store } from '../../domain/store.ts';
import { isLoomError, LoomError } from '../../errors.ts';
import { backup, operation, storedBackup } from '../openapi/codes.ts';
import { jsonAnswer, type Operation } from '../openapi/operation.ts';
import { abortSignalOf } from '../reply/stream.ts';
import { callerOf } from '../request/actor.ts';
import { JSON_TYPES, openBody } from '../request/body.ts';
import { dataRoute } from '../route-config.ts';

const exampleBackup = {
  loom_backup_version: 1,
  state_key: 'default',
  exported_at: '2026-11-25T22:57:28.451652Z',
  state: { greeting: { text: 'hello' } },
};

const restoreBackup = {
  id: 'restoreBackup',
  summary: 'Restores a backup, everything or nothing',
  description: 'The body can have any size, and its members any order.',
  headers: ['content-encoding'],
  body: {
    mediaTypes: JSON_TYPES,
    schema: restoreBodySchema,
    examples: {
      plan: { confirm: 'restore', dry_run: true, backup: exampleBackup },
      restore: { confirm: 'restore', backup: exampleBackup },
      scratch: { confirm: 'restore', into_scratch: 'trial', backup: exampleBackup },
      stored: { confirm: 'restore', dry_run: true, from: 'loom-default-20261125T225728.451Z-r17.json.gz' },
      documents: { confirm: 'restore', documents: ['greeting', 'greet*'], backup: exampleBackup },
    },
  },
  answers: jsonAnswer(restoreReportSchema, 'What the restore did or, with "dry_run", would do.'),
  codes: [
    ...operation,
    ...backup,
    ...storedBackup,
    'identity_missing',
    'invalid_restore_request',
    'state_key_mismatch',
    'scratch_exists',
    'document_not_found',
  ],
} satisfies Operation;

export function registerRestore(
  app: FastifyInstance,
  {
    store,
    storedBackups,
    paceWindowMs,
  }: { store: Pick<Store, 'restore'>; storedBackups: StoredBackups | undefined; paceWindowMs: number },
): void {
  const openStored = storedBackups && ((name: string, signal: AbortSignal) => storedBackups.openPlain(name, signal));
  app.post('/v1/admin/persistence/restore', dataRoute('admin', restoreBackup), async (request, reply) => {
    const signal = abortSignalOf(reply);
    // The body has no size limit: LOOM restores every backup that it exports.
    const body = openBody(request, { mediaTypes: JSON_TYPES, paceWindowMs, truncatedCode: 'backup_incomplete' });
    try {
      const { id: requestId, memory } = request;
      const context = { requestId, caller: callerOf(request), signal, memory: memory.body, openStored };
      return await store.restore(body, context);
    } catch (error) {
      throw withGzipHint(error);
    } finally {
      body.destroy();
    }
  });
}

/** Adds a hint if a body begins with 0x1f, the first byte of gzip data, which JSON text never contains. */
function withGzipHint(error: unknown): unknown {
  if (!isLoomError(error) || error.code !== 'invalid_json') return error;
  if (error.place.offset !== 0 || !error.message.includes('byte 0x1f')) return error;
  const detail = `${error.message} If the body is gzip, send the header content-encoding: gzip.`;
  return new LoomError(error.code, detail, error.place);
}
