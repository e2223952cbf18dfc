// src/domain/ is the vocabulary: the types that the rooms pass to each other, and the rules for names and tags. It is
// pure: it may import errors, limits and zod. It must not know PostgreSQL, HTTP, files or clocks.

/** Identifies the last entry of an audit trail. An empty trail has seq 0 and `GENESIS_HASH`. */
export interface AuditHead {
  seq: number;
  /** Lower-case hex, 64 digits. */
  hash: string;
}

/** Serves as the previous hash of the first entry: 32 zero bytes. */
export const GENESIS_HASH = '0'.repeat(64);

export const EMPTY_HEAD: AuditHead = { seq: 0, hash: GENESIS_HASH };

/** Lists the actions of entries that LOOM writes. */
export const auditActions = [
  'document.put',
  'document.patch',
  'document.delete',
  'state.put',
  'state.patch',
  'restore',
  'restore.changes',
  'undo',
  'undo.changes',
  'audit.import',
  'epoch',
] as const;

/** Selects by time, in RFC 3339 with UTC. `since` is inclusive, `until` exclusive. */
export interface TimeRange {
  since?: string | undefined;
  until?: string | undefined;
}

/**
 * Selects entries with `after` < seq < `before`. `document` selects the entries that change this document,
 * and the restores and undos that may have changed it.
 */
export interface AuditQuery extends TimeRange {
  after?: number | undefined;
  before?: number | undefined;
  limit: number;
  order: 'asc' | 'desc';
  action?: string | undefined;
  document?: string | undefined;
}

/** Describes the members that every entry of `GET /v1/audit` has. */
export interface ListedEntry {
  seq: number;
  hash: string;
  action: string;
  event_id: string;
}

/** Holds one entry as JSON text: the entry's members and `hash`. */
export interface AuditLine {
  seq: number;
  text: string;
}

/** Names the fault of a broken chain. */
export type ChainFault =
  | 'hash_mismatch'
  | 'seq_gap'
  | 'seq_mismatch'
  | 'column_mismatch'
  | 'head_mismatch'
  | 'entries_missing';

/** Reports the result of checking the complete chain in the database. */
export type AuditVerdict =
  | { ok: true; entries: number; head: AuditHead }
  | { ok: false; entries: number; head: AuditHead; first_bad_seq: number; reason: ChainFault; detail: string };
