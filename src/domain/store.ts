import type { Readable } from 'node:stream';
import type { AuditHead, AuditLine, AuditQuery, AuditVerdict } from './audit.ts';
import type { BackupOptions, RestoreReport } from './backup.ts';
import type { SubmitCommit } from './commit.ts';
import type { DocumentSummary, StoredDocument } from './document.ts';
import type { SchemaStatus, ScratchState, StateHead } from './state.ts';
import type { UndoRecord, UndoReport, UndoRequest } from './undo.ts';

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

/** Holds one page of the audit trail. The store returns entries as text; a client parses them. */
export interface AuditPage<Entry = AuditLine> {
  entries: Entry[];
  /** Pass it as `after` (ascending) or `before` (descending) to go on; null at the end. */
  next: number | null;
  head: AuditHead;
}

/** A snapshot of the state on its way out: destroy `body` to give it up, and its connection is closed. */
export interface StateStream {
  epoch: string;
  revision: number;
  /** UTF-8 text of one JSON object with all documents, in byte order of their names. */
  body: Readable;
}

/** An operation that takes long, as status shows it. */
export interface RunningOperation {
  /** A restore or undo becomes a `plan` as soon as it is known to be a dry run. */
  kind: 'backup' | 'restore' | 'plan' | 'undo' | 'verify';
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
  openState(): Promise<StateStream>;
  readAudit(query: AuditQuery): Promise<AuditPage>;
  /** Newline-delimited JSON of all entries that `query` selects; its limit does not count. */
  openAudit(query: Omit<AuditQuery, 'limit'>): Promise<Readable>;
  /** `scratch`: the key of a scratch state of this one, to verify its chain instead. */
  verifyAudit(context: OperationContext, scratch?: string): Promise<AuditVerdict>;
  /** Resolves once the snapshot is taken. */
  openBackup(options: BackupOptions, context: OperationContext): Promise<BackupStream>;
  /** `body` is the decoded (not gzipped) request body. */
  restore(body: Readable, context: OperationContext): Promise<RestoreReport>;
  undo(request: UndoRequest, context: OperationContext): Promise<UndoReport>;
  /** What can be undone, newest first. */
  readUndoRecords(): Promise<UndoRecord[]>;
  /** The scratch states that were made by nodes of this state. */
  readScratchStates(): Promise<ScratchState[]>;
  /** Answers what the scratch state held. Rejects with `scratch_not_found` for a state that is none. */
  dropScratch(stateKey: string): Promise<Pick<ScratchState, 'state_key' | 'documents' | 'audit_entries'>>;
  readSchema(): Promise<SchemaStatus>;
  readDatabase(): Promise<DatabaseStatus>;
  /** What status and metrics show without asking the database. */
  observe(): StoreObservation;
}

export interface DatabaseStatus {
  version: string;
  latencyMs: number;
}

/**
 * What this node last saw of the chain: a verification checks all of it, a backup the entries that it holds. A part that holds does not
 * replace the finding that the whole does not.
 */
export interface ChainCheckRecord {
  ok: boolean;
  by: 'verify' | 'backup';
  checked_at: string;
  /** The entries that were checked. */
  from_seq: number;
  to_seq: number;
  first_bad_seq: number | null;
}

/** A backup on its way out. */
export interface BackupStream {
  /** Fails by being destroyed with a LoomError. */
  body: Readable;
  /**
   * To be called when its last byte has been handed to its reader: notes the time, unless the chain in it is broken, because then
   * nobody could restore it.
   */
  recordTaken(): Promise<void>;
}

export interface StoreObservation {
  queueDepth: number;
  pool: { total: number; idle: number; waiting: number; max: number };
  operations: RunningOperation[];
  /** Null until the first backup or verification by this node. */
  lastChainCheck: ChainCheckRecord | null;
}
