import type { Readable } from 'node:stream';
import type { AuditHead, AuditLine, AuditQuery, AuditVerdict } from './audit.ts';
import type { BackupOptions, RestoreReport } from './backup.ts';
import type { SubmitCommit } from './commit.ts';
import type { DocumentSummary, StoredDocument } from './document.ts';
import type { SchemaStatus, StateHead } from './state.ts';

export interface DocumentQuery {
  prefix?: string;
  /** Names after this one, in byte order. */
  after?: string;
  limit: number;
}

export interface DocumentPage {
  documents: DocumentSummary[];
  /** Pass it as `after` to go on; null at the end. */
  next: string | null;
  epoch: string;
  revision: number;
}

export interface AuditPage {
  entries: AuditLine[];
  /** Pass it as `after` (ascending) or `before` (descending) to go on; null at the end. */
  next: number | null;
  head: AuditHead;
}

/** A snapshot of the state on its way out: destroy `body` to give it up, and its connection is closed. */
export interface StateSnapshot {
  epoch: string;
  revision: number;
  /** UTF-8 text of one JSON object with all documents, in byte order of their names. */
  body: Readable;
}

/** An operation that takes long, as status shows it. */
export interface RunningOperation {
  /** A restore becomes a `plan` as soon as its body has said that it is a dry run. */
  kind: 'backup' | 'restore' | 'plan' | 'verify';
  started_at: string;
  request_id: string;
  documents: number;
  audit_entries: number;
  bytes: number;
}

export interface OperationContext {
  requestId: string;
  /** Ends the operation: nothing is changed, its connection is closed. */
  signal: AbortSignal;
}

/** What the HTTP side asks of PostgreSQL, for the node's own state key. Every verb rejects with a LoomError. */
export interface Store {
  submitCommit: SubmitCommit;
  readHead(): Promise<StateHead>;
  readDocument(name: string): Promise<StoredDocument | undefined>;
  listDocuments(query: DocumentQuery): Promise<DocumentPage>;
  openState(): Promise<StateSnapshot>;
  readAudit(query: AuditQuery): Promise<AuditPage>;
  /** Newline-delimited JSON of all entries that `query` selects; its limit does not count. */
  openAudit(query: Omit<AuditQuery, 'limit'>): Promise<Readable>;
  verifyAudit(context: OperationContext): Promise<AuditVerdict>;
  /** Resolves once the snapshot is taken; fails afterwards by destroying the stream with a LoomError. */
  openBackup(options: BackupOptions, context: OperationContext): Promise<Readable>;
  /** To be called when a backup's last byte has been handed to its reader. */
  recordBackup(): Promise<void>;
  /** `body` is the decoded (not gzipped) request body. */
  restore(body: Readable, context: OperationContext): Promise<RestoreReport>;
  readSchema(): Promise<SchemaStatus>;
  readDatabase(): Promise<DatabaseStatus>;
  /** What status and metrics show without asking the database. */
  observe(): StoreObservation;
}

export interface DatabaseStatus {
  version: string;
  latencyMs: number;
}

/** What this node last saw of the chain: a verification checks all of it, a backup the entries that it holds. */
export interface ChainCheckRecord {
  ok: boolean;
  by: 'verify' | 'backup';
  checked_at: string;
  first_bad_seq: number | null;
}

export interface StoreObservation {
  queueDepth: number;
  pool: { total: number; idle: number; waiting: number; max: number };
  operations: RunningOperation[];
  /** Null until the first backup or verification by this node. */
  lastChainCheck: ChainCheckRecord | null;
}
