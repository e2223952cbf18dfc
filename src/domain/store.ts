import type { Readable } from 'node:stream';
import type { AuditHead, AuditLine, AuditQuery, AuditVerdict } from './audit.ts';
import type { BackupOptions, RestoreReport } from './backup.ts';
import type { SubmitCommit } from './commit.ts';
import type { DocumentSummary, StoredDocument } from './document.ts';
import type { UndoOptions } from './request.ts';
import type { DroppedScratch, SchemaStatus, ScratchState, StateHead } from './state.ts';
import type { UndoRecord, UndoReport } from './undo.ts';

export interface DocumentQuery {
  prefix?: string | undefined;
  /** Names after this one, in byte order. */
  after?: string | undefined;
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

/** A streamed read of the whole state. Destroying `body` aborts it and closes its connection. */
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
  /** Aborts the operation: nothing is changed, and its connection is closed. */
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
  /** Verifies the chain of the state, or of its scratch state `scratch`. */
  verifyAudit(context: OperationContext, scratch?: string): Promise<AuditVerdict>;
  /** Resolves once the snapshot is taken. */
  openBackup(options: BackupOptions, context: OperationContext): Promise<BackupStream>;
  /** `body` is the decoded (not gzipped) request body. */
  restore(body: Readable, context: OperationContext): Promise<RestoreReport>;
  undo(request: UndoOptions, context: OperationContext): Promise<UndoReport>;
  /** Returns what can be undone, newest first. */
  readUndoRecords(): Promise<UndoRecord[]>;
  /** Returns the scratch states that nodes of this state made. */
  readScratchStates(): Promise<ScratchState[]>;
  /** Returns what the scratch state contained. Rejects with `scratch_not_found` for any other state. */
  dropScratch(stateKey: string): Promise<DroppedScratch>;
  readSchema(): Promise<SchemaStatus>;
  readDatabase(): Promise<{ version: string; latencyMs: number }>;
  /** Returns what status and metrics show without asking the database. */
  observe(): StoreObservation;
}

/** The last verdict of this node on the chain: a verification checks all of it, a backup the entries in it. */
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
  /** Call once the reader has the last byte. Records the time, unless the chain is broken: nobody could restore it. */
  recordTaken(): Promise<void>;
}

export interface StoreObservation {
  queueDepth: number;
  pool: { total: number; idle: number; waiting: number; max: number };
  operations: RunningOperation[];
  /** Null until the first backup or verification by this node. */
  lastChainCheck: ChainCheckRecord | null;
}
