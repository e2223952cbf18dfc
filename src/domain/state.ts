import { limits } from '../limits.ts';
import type { AuditHead } from './audit.ts';

/** The keyed row: where a state stands. */
export interface StateHead {
  stateKey: string;
  epoch: string;
  revision: number;
  documents: number;
  /** Sum of the canonical texts of all documents, in bytes. */
  bytes: number;
  head: AuditHead;
  lastBackupAt: string | null;
  lastRestoreAt: string | null;
  updatedAt: string;
}

/** The schema of the database as a node sees it. */
export interface SchemaStatus {
  initialized: boolean;
  schemaVersion: number | null;
  compatibleFrom: number | null;
  instanceId: string | null;
  applied: { version: number; name: string; sha256: string; applied_at: string }[];
  pending: { version: number; name: string }[];
}

/** A state that a restore made beside the node's own (`into_scratch`). */
export interface ScratchState {
  state_key: string;
  created_at: string;
  documents: number;
  /** Sum of the canonical texts of its documents. */
  bytes: number;
  audit_entries: number;
}

/** Describes a scratch state that was dropped. */
export interface DroppedScratch extends Pick<ScratchState, 'state_key' | 'documents' | 'audit_entries'> {
  dropped: true;
}

/** Returns what is wrong with a state key, as the predicate of a sentence; undefined for a valid key. */
export function stateKeyFault(key: string): string | undefined {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the expression looks for control characters
  const isStorable = key.isWellFormed() && !/[\u0000-\u001f\u007f-\u009f]/.test(key);
  if (!isStorable) return 'contains control characters or lone surrogates';
  const bytes = Buffer.byteLength(key);
  return bytes > limits.maxStateKeyBytes ? `has ${bytes} bytes; the maximum is ${limits.maxStateKeyBytes}` : undefined;
}

/** Checks the key of a scratch state as `stateKeyFault` does, and that the path of its route can contain it. */
export function scratchKeyFault(key: string): string | undefined {
  if (key === '' || key === '.' || key === '..') return 'is empty, "." or "..", which cannot be a segment of a URL';
  return stateKeyFault(key);
}
