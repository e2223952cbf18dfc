import type { TimeRange } from './audit.ts';

/** Selects the changes of a document with seq < `before`, newest first. */
export interface HistoryQuery extends TimeRange {
  before?: number | undefined;
  limit: number;
}

/** Describes one change of a document, as the audit trail records it. */
export interface RecordedChange {
  /** Seq of the audit entry. */
  seq: number;
  /** Revision of the document after the change. */
  revision: number;
  event_id: string;
  recorded_at: string;
  /** Action of the entry. What a restore did to documents is in `restore.changes` entries. */
  action: string;
  /** Kind of token: `client` or `admin`. Null only in a trail of another program. */
  actor: string | null;
  /** On whose behalf the request was made, if it said so. */
  actor_name?: string;
  /** `unknown`: a restore or undo by a node of an earlier version, which may have changed the document. */
  op: 'put' | 'merge' | 'delete' | 'unknown';
  /** Digest of the document after the change; null if it was deleted, or if the entry does not tell. */
  sha256: string | null;
}

export interface DocumentHistory {
  name: string;
  history: RecordedChange[];
  /** Value of `before` for the next page; null on the last page. */
  next: number | null;
}
