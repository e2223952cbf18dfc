// src/domain/ is the vocabulary: the types that the rooms pass to each other, and the rules for names and tags. It is
// pure: it may import errors, limits and zod. It must not know PostgreSQL, HTTP, files or clocks.

import { commitActions } from './commit.ts';

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
  ...commitActions,
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

/** Lists the faults of a broken chain. */
export const chainFaults = [
  'hash_mismatch',
  'seq_gap',
  'seq_mismatch',
  'column_mismatch',
  'head_mismatch',
  'entries_missing',
] as const;

export type ChainFault = (typeof chainFaults)[number];

/**
 * Names what does not match the trail: an entry's digest of a change, the changes that a restore claims, the index of
 * changes, a document, the state row, or an undo record. `definition_mismatch`: a function or trigger of LOOM is not as
 * the migrations created it.
 */
export type StateFault =
  | 'definition_mismatch'
  | 'digest_mismatch'
  | 'changes_mismatch'
  | 'index_mismatch'
  | 'document_mismatch'
  | 'state_mismatch'
  | 'undo_record_mismatch';

export interface AuditMismatch {
  reason: StateFault;
  /** Seq of the entry, if the fault has one. */
  seq?: number;
  /** Name of the document, if the fault has one. */
  document?: string;
  /** Event id of the undo record, if the fault has one. */
  event_id?: string;
  detail: string;
}

/** Reports the result of checking only the chain in the database. */
export type ChainVerdict =
  | { ok: true; entries: number; head: AuditHead }
  | { ok: false; entries: number; head: AuditHead; first_bad_seq: number; reason: ChainFault; detail: string };

interface CheckedTrail {
  entries: number;
  head: AuditHead;
  /** The first seq from which the trail alone makes the state. Before it, a node of an older version made a restore. */
  told_from_seq: number;
  /** Number of documents whose last change the trail does not tell, so that they cannot be checked. */
  untold_documents: number;
}

/** Reports the result of checking the complete trail in the database, and the state against it. */
export type AuditVerdict =
  | (CheckedTrail & { ok: true })
  | (CheckedTrail & {
      ok: false;
      /** Null if every entry is valid, and only what the trail makes was changed. */
      first_bad_seq: number | null;
      reason: ChainFault | StateFault;
      detail: string;
      /** The first document among the mismatches. */
      document?: string;
      /** What does not match, except for the chain: up to `limits.maxListedMismatches` of each reason. */
      mismatches: AuditMismatch[];
      mismatch_count: number;
    });
