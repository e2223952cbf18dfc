import type { IncomingMessage, ServerResponse } from 'node:http';
import type { RestoreReport } from '../../../src/domain/backup.ts';
import type { UndoReport } from '../../../src/domain/undo.ts';
import { listen } from '../node/http-proxy.ts';

const HEAD = { seq: 3, hash: 'a'.repeat(64) };

const operation = {
  dry_run: true,
  replaced_state: true,
  imported_audit_count: 0,
  revision: 9,
  epoch: null,
  based_on_revision: 8,
  event_id: null,
  documents: { added: 1, changed: 1, removed: 0, unchanged: 0 },
  document_names: { added: ['one'], changed: ['two'], removed: [], truncated: false },
  warnings: [],
};

/** Returns a plausible report of a restore, or of its plan. */
export function restoreReport(more: Partial<RestoreReport> = {}): RestoreReport {
  return {
    ...operation,
    restored_at: null,
    truncated_audit: false,
    replaced_audit_count: 0,
    verified: true,
    audit: {
      adopted: 0,
      imported: 0,
      replaced: 0,
      parted_at: null,
      previous_head: HEAD,
      backup_head: HEAD,
      head: null,
    },
    backup: {
      instance_id: 'instance-1',
      state_key: 'default',
      version: 1,
      schema_version: 2,
      taken_at: '2026-01-31T12:00:00.000001Z',
      revision: 5,
    },
    live: { instance_id: 'instance-1', state_key: 'default', revision: 8 },
    instance_differs: false,
    stored_backup: null,
    selected_documents: null,
    scratch: null,
    ...more,
  };
}

/** Returns a plausible report of an undo, or of its plan. */
export function undoReport(more: Partial<UndoReport> = {}): UndoReport {
  const undone = [{ event_id: 'event-1', kind: 'restore' as const, taken_at: '2026-01-31T12:00:00Z', revision: 8 }];
  const undo = { undone_at: null, undone, undo_record_verified: true as const };
  return { ...operation, ...undo, audit: { imported: 0, previous_head: HEAD, head: null }, ...more };
}

/** Returns a plausible status. */
export function statusReport(more: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    ready: { ok: true, checks: { http: 'ok', database: 'ok', schema: 'ok' } },
    version: '0.1.0',
    node_version: 'v24.0.0',
    started_at: '2026-01-31T12:00:00Z',
    uptime_seconds: 60,
    state_key: 'default',
    state: { revision: 8, epoch: 'e', documents: 2, bytes: 20, updated_at: '2026-01-31T12:00:00Z' },
    last_backup_at: null,
    last_restore_at: null,
    audit: { entries: 3, head: HEAD, last_check: null },
    schema: { version: 2, supported: 2, compatible_from: 1, pending: 0 },
    database: { ok: true, version: '18.0', latency_ms: 1 },
    operations: [],
    undo: { kept_most: 3, bytes: 0, kept: [] },
    scratch_states: [],
    ...more,
  };
}

export interface FakeNode {
  url: string;
  /** Method, path and body of each request. */
  asked: { method: string; path: string; body: string }[];
  close(): Promise<void>;
}

type Answer = object | string | ((body: string, question: IncomingMessage) => object | Promise<object>);

/**
 * Starts a server that answers as a node does. `answers` maps the start of a path to the answer; the first match
 * counts. An object is sent with status 200. Other paths get a problem.
 */
export async function startFakeNode(answers: Record<string, Answer>): Promise<FakeNode> {
  const asked: FakeNode['asked'] = [];
  const respond = async (question: IncomingMessage, answer: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = [];
    for await (const chunk of question) chunks.push(chunk as Buffer);
    const { method = '', url: path = '' } = question;
    const body = Buffer.concat(chunks).toString('utf8');
    asked.push({ method, path, body });
    const found = Object.entries(answers).find(([start]) => path.startsWith(start))?.[1];
    const value = typeof found === 'function' ? await found(body, question) : found;
    const problem = { code: 'not_found', detail: 'No route has this path.' };
    answer.writeHead(value === undefined || Object.hasOwn(Object(value), 'code') ? 404 : 200, {
      'content-type': 'application/json',
    });
    answer.end(typeof value === 'string' ? value : JSON.stringify(value ?? problem));
  };
  const server = await listen((question, answer) => void respond(question, answer));
  return { url: server.url, asked, close: server.close };
}
