import { Readable } from 'node:stream';
import { Agent } from 'undici';
import type { UndoMembers } from '../../backup/format/request.ts';
import type { AuditHead, AuditVerdict } from '../../domain/audit.ts';
import type { RestoreReport } from '../../domain/backup.ts';
import type { Readiness } from '../../domain/readiness.ts';
import type { ChainCheckRecord } from '../../domain/store.ts';
import type { UndoRecord, UndoReport } from '../../domain/undo.ts';
import { limits } from '../../limits.ts';
import { type Answer, createTransport, type RequestOptions } from './transport.ts';

/** As `GET /v1/admin/status` answers: what only the database knows is null while that is away. */
export interface StatusReport {
  ready: Readiness;
  version: string;
  uptime_seconds: number;
  state_key: string;
  state: {
    revision: number | null;
    epoch: string | null;
    documents: number | null;
    bytes: number | null;
    updated_at: string | null;
  };
  audit: { entries: number | null; head: AuditHead | null; last_check: ChainCheckRecord | null };
  schema: { version: number | null; supported: number; pending: number | null };
  database: { ok: boolean; version: string | null; latency_ms: number | null; code?: string };
  last_backup_at: string | null;
  last_restore_at: string | null;
  operations: { kind: string; started_at: string; documents: number; bytes: number }[];
  undo: { kept_most: number; bytes: number | null; kept: (UndoRecord & { age_seconds: number })[] | null } | null;
  scratch_states: { state_key: string; created_at: string; documents: number; bytes: number }[] | null;
}

export interface AuditPage {
  entries: { seq: number; hash: string; action: string; event_id: string }[];
}

export interface BackupQuery {
  includeAudit?: boolean;
  auditLimit?: number;
  gzip?: boolean;
}

export interface BackupDownload {
  body: Readable;
  /** Whether the bytes are gzip: a proxy on the way may have packed or unpacked them. */
  isGzip: boolean;
}

export interface NodeClientOptions {
  /** Where the node is, without a path unless it is behind a proxy that takes one away. */
  url: string;
  token: string;
  /** Ends what is under way when it is aborted. */
  signal?: AbortSignal;
}

/** A node over HTTP. Everything rejects with a NodeError. */
export type NodeClient = ReturnType<typeof createNodeClient>;

export function createNodeClient({ url, token, signal }: NodeClientOptions) {
  const agent = new Agent({
    connect: { timeout: limits.clientConnectTimeoutMs },
    bodyTimeout: limits.clientIdleTimeoutMs,
  });
  const { ask, open, faultOf } = createTransport({ url, token, agent, ...(signal === undefined ? {} : { signal }) });
  const persistence = '/v1/admin/persistence';

  async function read<T>(what: string, members: string[], options: RequestOptions): Promise<T> {
    return expectMembers<T>(await ask(options), what, members);
  }

  async function* chunksOf(body: Readable): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of body as AsyncIterable<Buffer>) yield chunk;
    } catch (error) {
      throw faultOf(error);
    }
  }

  return {
    readStatus: () =>
      read<StatusReport>('a status', ['state', 'state_key', 'database', 'ready'], {
        path: '/v1/admin/status',
        timeoutMs: limits.clientAnswerTimeoutMs,
      }),
    openBackup: async ({
      includeAudit = true,
      auditLimit,
      gzip = false,
    }: BackupQuery = {}): Promise<BackupDownload> => {
      const query = new URLSearchParams({ include_audit: String(includeAudit) });
      if (auditLimit !== undefined) query.set('audit_limit', String(auditLimit));
      const headers = { 'accept-encoding': gzip ? 'gzip' : 'identity' };
      const { body, headers: answered } = await open({ path: `${persistence}/backup?${query}`, headers });
      return {
        body: Readable.from(chunksOf(body), { objectMode: false }),
        isGzip: answered['content-encoding'] === 'gzip',
      };
    },
    /** `body` is the whole body: see `openRestoreBody`. */
    restore: (body: Readable, isGzip: boolean) =>
      read<RestoreReport>('a report on a restore', ['dry_run', 'revision', 'documents', 'audit'], {
        method: 'POST',
        path: `${persistence}/restore`,
        headers: { 'content-type': 'application/json', ...(isGzip ? { 'content-encoding': 'gzip' } : {}) },
        body,
      }),
    undo: (members: UndoMembers) =>
      read<UndoReport>('a report on an undo', ['dry_run', 'revision', 'documents', 'undone'], {
        method: 'POST',
        path: `${persistence}/undo`,
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ confirm: 'undo', ...members }),
      }),
    dropScratch: (stateKey: string) =>
      read<{ dropped: true }>('an answer about a scratch state', ['dropped'], {
        method: 'DELETE',
        path: `${persistence}/scratch/${encodeURIComponent(stateKey)}`,
        timeoutMs: limits.clientAnswerTimeoutMs,
      }),
    /** Of the live state, or of a scratch state. */
    verifyAudit: (scratch?: string) =>
      read<AuditVerdict>('a verdict on the chain', ['ok', 'entries', 'head'], {
        path: `/v1/audit/verify${scratch === undefined ? '' : `?${new URLSearchParams({ scratch })}`}`,
      }),
    readAudit: (query: Record<string, string>) =>
      read<AuditPage>('audit entries', ['entries', 'head'], {
        path: `/v1/audit?${new URLSearchParams(query)}`,
        timeoutMs: limits.clientAnswerTimeoutMs,
      }),
    close: () => agent.destroy(),
  };
}

/** Another program behind the same address may answer JSON, too. */
function expectMembers<T>({ json, fault }: Answer, what: string, members: string[]): T {
  const isObject = typeof json === 'object' && json !== null;
  if (!isObject || members.some((member) => !(member in json)))
    throw fault(`The answer is not ${what}: is this a LOOM node?`);
  return json as T;
}
