/**
 * Calls a node over HTTP, for the client commands.
 *
 * May import `domain`, `errors`, `json`, `limits` and undici. Must not know the server, a file or a terminal. Requests
 * and answers have the types of the routes. Every call rejects with a `NodeError`.
 */
import { Readable } from 'node:stream';
import type { AuditVerdict, ListedEntry } from '../../domain/audit.ts';
import type { RestoreReport } from '../../domain/backup.ts';
import type { BackupRun, StoredBackup } from '../../domain/backup-run.ts';
import type { UndoMembers } from '../../domain/request.ts';
import type { DroppedScratch } from '../../domain/state.ts';
import type { StatusReport } from '../../domain/status.ts';
import type { AuditPage } from '../../domain/store.ts';
import type { UndoReport } from '../../domain/undo.ts';
import { limits } from '../../limits.ts';
import { createPageReader } from './audit-page.ts';
import { createTransport, type Transport, type TransportOptions } from './transport.ts';

export interface BackupQuery {
  includeAudit?: boolean;
  auditLimit?: number;
  gzip?: boolean;
}

export type NodeClient = ReturnType<typeof createNodeClient>;

const STATUS = '/v1/admin/status';
const PERSISTENCE = '/v1/admin/persistence';
const STORED = '/v1/admin/backups';

const json = { 'content-type': 'application/json' };

export function createNodeClient(options: TransportOptions) {
  const transport = createTransport(options);
  const { ask, scan } = transport;
  const timeoutMs = limits.clientAnswerTimeoutMs;

  return {
    readStatus: () =>
      ask<StatusReport>('a status', ['state', 'state_key', 'database', 'ready'], { path: STATUS, timeoutMs }),
    openBackup: (query: BackupQuery = {}) => openBackup(transport, query),
    /** Sends `body`, the complete request body that `openRestoreBody` creates. Status lists it by the request id. */
    restore: (body: Readable, isGzip: boolean, requestId?: string) =>
      ask<RestoreReport>('a restore report', ['dry_run', 'revision', 'documents', 'audit'], {
        method: 'POST',
        path: `${PERSISTENCE}/restore`,
        headers: { ...json, ...(isGzip ? { 'content-encoding': 'gzip' } : {}), ...identified(requestId) },
        body,
      }),
    undo: (members: UndoMembers, requestId?: string) =>
      ask<UndoReport>('an undo report', ['dry_run', 'revision', 'documents', 'undone'], {
        method: 'POST',
        path: `${PERSISTENCE}/undo`,
        headers: { ...json, ...identified(requestId) },
        body: JSON.stringify({ confirm: 'undo', ...members }),
      }),
    dropScratch: (stateKey: string) =>
      ask<DroppedScratch>('an answer about a scratch state', ['dropped'], {
        method: 'DELETE',
        path: `${PERSISTENCE}/scratch/${encodeURIComponent(stateKey)}`,
        timeoutMs,
      }),
    /** Verifies the chain of the live state or of a scratch state. */
    verifyAudit: (scratch?: string, requestId?: string) =>
      ask<AuditVerdict>('a verdict on the chain', ['ok', 'entries', 'head'], {
        path: `/v1/audit/verify${scratch === undefined ? '' : `?${new URLSearchParams({ scratch })}`}`,
        headers: identified(requestId),
      }),
    /** Keeps only the members of `ListedEntry`, because one entry may have some hundred MiB. */
    readAudit: (query: Record<string, string>): Promise<AuditPage<ListedEntry>> =>
      scan('a page of audit entries', createPageReader(), {
        path: `/v1/audit?${new URLSearchParams(query)}`,
        timeoutMs,
      }),
    ...storedBackupRequests(transport),
    close: transport.close,
  };
}

/** Makes the requests about stored backups. A request that begins a run waits for its end, up to `waitSeconds`. */
function storedBackupRequests({ ask }: Transport) {
  const timeoutMs = limits.clientAnswerTimeoutMs;
  const start = (path: string, waitSeconds: number) =>
    ask<BackupRun>('a run', runMembers, {
      method: 'POST',
      path,
      headers: { prefer: `wait=${waitSeconds}` },
      timeoutMs: timeoutMs + waitSeconds * 1000,
    });
  return {
    listStoredBackups: (query: Record<string, string>) =>
      ask<{ backups: StoredBackup[]; next: string | null }>('a list of stored backups', ['backups', 'next'], {
        path: `${STORED}?${new URLSearchParams(query)}`,
        timeoutMs,
      }),
    takeStoredBackup: (waitSeconds: number) => start(STORED, waitSeconds),
    drillStoredBackup: (name: string, waitSeconds: number) =>
      start(`${STORED}/${encodeURIComponent(name)}/drill`, waitSeconds),
    readRun: (id: string) =>
      ask<BackupRun>('a run', runMembers, { path: `${STORED}/runs/${encodeURIComponent(id)}`, timeoutMs }),
  };
}

const runMembers = ['id', 'kind', 'outcome'];

function identified(requestId: string | undefined): Record<string, string> {
  return requestId === undefined ? {} : { 'x-request-id': requestId };
}

async function openBackup(
  { open, toError }: Transport,
  { includeAudit = true, auditLimit, gzip = false }: BackupQuery,
) {
  const query = new URLSearchParams({ include_audit: String(includeAudit) });
  if (auditLimit !== undefined) query.set('audit_limit', String(auditLimit));
  const { body, headers } = await open({
    path: `${PERSISTENCE}/backup?${query}`,
    headers: { 'accept-encoding': gzip ? 'gzip' : 'identity' },
  });
  async function* chunks(): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of body as AsyncIterable<Buffer>) yield chunk;
    } catch (error) {
      throw toError(error);
    }
  }
  // A proxy may have compressed or decompressed the body, so only the answer's header tells.
  const isGzip = headers['content-encoding'] === 'gzip';
  return { body: Readable.from(chunks(), { objectMode: false }), isGzip };
}
