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
