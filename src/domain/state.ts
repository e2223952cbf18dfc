import { limits } from '../limits.ts';
import type { AuditHead } from './audit.ts';

/** Describes a state: its epoch, revision, totals and audit head. */
export interface StateHead {
  stateKey: string;
  epoch: string;
  revision: number;
  documents: number;
  /** Total length of the canonical texts of all documents. */
  bytes: number;
  head: AuditHead;
  lastBackupAt: string | null;
  lastRestoreAt: string | null;
  updatedAt: string;
  /** Members of status whose time is ahead of the database's clock: the clock has gone back since. */
  futureTimes: string[];
}

/** Adds what only the status and the metrics show. */
export interface ObservedHead extends StateHead {
  /** Counts the epochs that a commit started because the database had lost commits, and describes the last one. */
  epochChanges: number;
  lastEpochChange: EpochChange | null;
}

/** `lineage`: another cluster, timeline or database. `revision`: a smaller revision than a node had seen. */
export interface EpochChange {
  at: string;
  reason: 'lineage' | 'revision';
}

/** Describes the schema of the database, and the migrations that this node would still apply. */
export interface SchemaStatus {
  initialized: boolean;
  schemaVersion: number | null;
  compatibleFrom: number | null;
  instanceId: string | null;
  applied: { version: number; name: string; sha256: string; applied_at: string }[];
  pending: { version: number; name: string }[];
}

/** Describes a state that a restore created beside the live state (`into_scratch`). */
export interface ScratchState {
  state_key: string;
  created_at: string;
  documents: number;
  /** Total length of the canonical texts of its documents. */
  bytes: number;
  audit_entries: number;
}

export interface DroppedScratch extends Pick<ScratchState, 'state_key' | 'documents' | 'audit_entries'> {
  dropped: true;
}

/** Describes a transaction that holds a lock. A member is null if the database role may not see it. */
export interface LockHolder {
  /** Process id of its connection in PostgreSQL. */
  pid: number;
  /** `loom` for a node. */
  application_name: string | null;
  /** When the transaction began. */
  since: string | null;
}

export interface StateLocks {
  /** Holder of the state row. Commits wait for it. A batch of commits holds the row for a moment. */
  state: LockHolder | null;
  /** Holder of the lock for restores, undos and dry runs. */
  restore: LockHolder | null;
}

/** Returns the fault of a state key as a predicate, as `documentNameFault` does; undefined for a valid key. */
export function stateKeyFault(key: string, maxBytes: number = limits.maxStateKeyBytes): string | undefined {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the expression looks for control characters
  const isStorable = key.isWellFormed() && !/[\u0000-\u001f\u007f-\u009f]/.test(key);
  if (!isStorable) return 'contains control characters or lone surrogates';
  const bytes = Buffer.byteLength(key);
  return bytes > maxBytes ? `has ${bytes} bytes; the maximum is ${maxBytes}` : undefined;
}

/** Returns the fault of a new scratch state's name. Its route contains the name, so it must be a valid URL segment. */
export function scratchKeyFault(key: string): string | undefined {
  if (key === '' || key === '.' || key === '..') return 'is empty, "." or "..", which cannot be a segment of a URL';
  return stateKeyFault(key, limits.maxScratchKeyBytes);
}
