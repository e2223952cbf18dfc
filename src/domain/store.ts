import type { Readable } from 'node:stream';
import { z } from 'zod';
import type { Caller } from './actor.ts';
import {
  type AuditLine,
  type AuditQuery,
  type AuditVerdict,
  type auditPageSchema,
  chainFaults,
  stateFaults,
} from './audit.ts';
import type { BackupHeader, BackupManifest, BackupOptions, RestoreReport } from './backup.ts';
import type { SubmitCommit } from './commit.ts';
import type { DocumentPage, StoredDocument } from './document.ts';
import { count, seq, time } from './forms.ts';
import type { DocumentHistory, HistoryQuery } from './history.ts';
import type { MemoryShare } from './memory.ts';
import type { UndoOptions } from './request.ts';
import type { DroppedScratch, ObservedHead, SchemaStatus, ScratchState, StateHead, StateLocks } from './state.ts';
import type { UndoRecord, UndoReport } from './undo.ts';

/** Receives the size of a long text before it is read into memory. Throws to refuse it. */
export type Admit = (bytes: number) => void;

export interface DocumentQuery {
  prefix?: string | undefined;
  /** Selects the names after this one, in byte order. */
  after?: string | undefined;
  limit: number;
}

/** Holds one page of the audit trail. The store returns each entry as text, and the HTTP client as an object. */
export interface AuditPage<Entry = AuditLine> extends Omit<z.output<typeof auditPageSchema>, 'entries'> {
  entries: Entry[];
}

/** Describes a streamed read of the whole state. Destroying `body` aborts the read and closes its connection. */
export interface StateStream {
  epoch: string;
  revision: number;
  /** UTF-8 text of one JSON object with all documents, in byte order of their names. */
  body: Readable;
}

export const runningOperationSchema = z.object({
  kind: z
    .enum(['backup', 'restore', 'plan', 'undo', 'verify'])
    .describe('A restore or undo becomes a plan as soon as its request says dry_run'),
  started_at: time,
  request_id: z.string(),
  phase: z
    .enum(['receiving', 'checking', 'planning', 'applying'])
    .exactOptional()
    .describe('What a restore or its dry run does now; absent for other kinds'),
  documents: count,
  audit_entries: count,
  bytes: count,
});

/** Describes a running operation, as status lists it. */
export type RunningOperation = z.output<typeof runningOperationSchema>;

export type OperationPhase = NonNullable<RunningOperation['phase']>;

export interface OperationContext {
  requestId: string;
  /** Aborts the operation, rolls back its changes and closes its connection. */
  signal: AbortSignal;
  /** The memory of the request's body, for an operation that reads one. */
  memory?: Pick<MemoryShare, 'resize'>;
  /** Says that nobody waits for a backup, restore or verification: it leaves the processors to commits. */
  isPatient?: boolean;
}

/** Adds who requests a restore or undo. */
export interface ChangeContext extends OperationContext {
  caller: Caller;
}

/** Adds the source of a restore whose request has a name in "from" instead of a backup. */
export interface RestoreContext extends ChangeContext {
  /** Opens a stored backup as the text of a backup. Undefined without a store. */
  openStored?: ((name: string, signal: AbortSignal) => Promise<Readable>) | undefined;
}

/** Defines the verbs that routes call, for the state of one key. Every verb rejects with a `LoomError`. */
export interface Store {
  submitCommit: SubmitCommit;
  readHead(): Promise<StateHead>;
  /** Reads the head for the status and the metrics. */
  observeHead(): Promise<ObservedHead>;
  readDocument(name: string, admit?: Admit): Promise<StoredDocument | undefined>;
  listDocuments(query: DocumentQuery): Promise<DocumentPage>;
  /** Returns the changes of a document, newest first; undefined if the audit trail has none. */
  readHistory(name: string, query: HistoryQuery): Promise<DocumentHistory | undefined>;
  openState(signal?: AbortSignal): Promise<StateStream>;
  readAudit(query: AuditQuery, admit?: Admit): Promise<AuditPage>;
  /** Streams the selected entries as newline-delimited JSON, without a limit. */
  openAudit(query: Omit<AuditQuery, 'limit'>, signal?: AbortSignal): Promise<Readable>;
  /** Verifies the chain of the state, or of its scratch state `scratch`. */
  verifyAudit(context: OperationContext, scratch?: string): Promise<AuditVerdict>;
  /** Resolves when the transaction snapshot has been taken. */
  openBackup(options: BackupOptions, context: OperationContext): Promise<BackupStream>;
  /** Restores from `body`, the request body after gzip decoding. */
  restore(body: Readable, context: RestoreContext): Promise<RestoreReport>;
  undo(request: UndoOptions, context: ChangeContext): Promise<UndoReport>;
  /** Returns the undo records, newest first. */
  readUndoRecords(): Promise<UndoRecord[]>;
  /** Returns which transactions hold the locks of this state, of any node. */
  readLocks(): Promise<StateLocks>;
  /** Returns the scratch states that belong to this state. */
  readScratchStates(): Promise<ScratchState[]>;
  /** Drops a scratch state and returns its counts. Rejects with `scratch_not_found` for any other state. */
  dropScratch(stateKey: string): Promise<DroppedScratch>;
  readSchema(): Promise<SchemaStatus>;
  readDatabase(): Promise<{ version: string; latencyMs: number }>;
  /** Reads the sizes for metrics. PostgreSQL looks at every file of the database, so call it rarely. */
  readSizes(): Promise<StoreSizes>;
  /** Returns the values that status and metrics show without a query. */
  observe(): StoreObservation;
}

export const chainCheckSchema = z.object({
  ok: z.boolean(),
  by: z.enum(['verify', 'backup']).describe('A backup checks only the entries that it contains'),
  checked_at: time,
  from_seq: seq.describe('Seq of the first checked entry; to_seq is the last'),
  to_seq: seq,
  first_bad_seq: seq.nullable(),
  reason: z
    .enum([...chainFaults, ...stateFaults])
    .optional()
    .describe('The fault that was found. Nodes of version 0.2 and later set it, after a verification'),
});

/** Describes this node's last check of the chain. */
export type ChainCheckRecord = z.output<typeof chainCheckSchema>;

/** Describes a backup that is being streamed. */
export interface BackupStream {
  header: BackupHeader;
  /** Stream of the backup. If the export fails, it is destroyed with a `LoomError`. */
  body: Readable;
  /** Returns the last member of the backup once `body` has it; undefined before. */
  manifest(): BackupManifest | undefined;
  /** Records the time of the backup if it is restorable. Call it after the client has received the last byte. */
  recordTaken(): Promise<void>;
}

/** Describes the batches of commits that the server failed since the last one that it made. */
export interface CommitFailures {
  batches: number;
  /** Time since the last of them. */
  ageMs: number;
  /** Describes the last fault, without host or user. */
  fault: string;
}

export interface StoreSizes {
  /** Size of the whole database on disk. */
  databaseBytes: number;
  /** Size of the undo records of this state. */
  undoBytes: number;
}

export const poolSchema = z.object({
  total: count,
  idle: count,
  waiting: count.describe('Requests that wait for a connection, or for their share of them'),
  max: count,
  streams: z
    .object({ used: count, max: count })
    .describe('Connections that reads of the whole state or trail, backups, restores and verifications use'),
});

export interface StoreObservation {
  queueDepth: number;
  pool: z.output<typeof poolSchema>;
  operations: RunningOperation[];
  /** Null until the first backup or verification by this node. */
  lastChainCheck: ChainCheckRecord | null;
}
