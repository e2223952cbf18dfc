import type { Readable } from 'node:stream';
import { z } from 'zod';
import { LoomError, shortText } from '../errors.ts';
import { auditHeadSchema } from './audit.ts';
import { count, epoch, revision, sha256, time } from './forms.ts';
import type { StoreClaims } from './object-store.ts';

export const runKinds = ['scheduled', 'manual', 'drill'] as const;

/** A scheduled or manual run writes a backup and proves it. A drill proves a stored backup again. */
export type RunKind = (typeof runKinds)[number];

export const runOutcomes = ['running', 'proven', 'verified', 'failed', 'abandoned'] as const;

/**
 * Is `proven` only if the backup was read back, verified, restored into a scratch state and compared. A drill without
 * the key of an encrypted backup ends as `verified`: the stored bytes are those that were written. The run of a node
 * that died is `abandoned` as soon as another node takes over.
 */
export type RunOutcome = (typeof runOutcomes)[number];

export const backupRunSchema = z.object({
  id: z.uuid(),
  kind: z.enum(runKinds),
  slot: time.describe('The time of the schedule, or of the request'),
  attempt: z.int().min(1),
  node: z.string().describe('Names the node that runs it: host and process'),
  outcome: z.enum(runOutcomes),
  started_at: time,
  ended_at: time.nullable().describe('Null while it runs'),
  code: z.string().nullable().describe('Error code of a failed run'),
  detail: z.string().nullable().describe('Says what failed and what to do'),
  retry_at: time
    .nullable()
    .describe('When a node tries a failed run again; null if that attempt has begun, or if there is none to come'),
  name: z.string().nullable().describe('The stored backup that the run wrote or proved; null before it has a name'),
  restore_seconds: z.number().min(0).nullable().describe('Time of the restore that proved it'),
});

/** Describes one attempt at one slot. */
export type BackupRun = z.output<typeof backupRunSchema>;

export const storedBackupSchema = z.object({
  name: z.string(),
  kind: z.enum(['scheduled', 'manual']),
  taken_at: time.describe('Time of the snapshot'),
  revision,
  bytes: count.nullable().describe('Size in the store; null until it is complete'),
  sha256: sha256.nullable().describe('Digest of the stored bytes'),
  encrypted: z.boolean(),
  outcome: z
    .enum(runOutcomes)
    .describe('"proven" if and only if "proven_at" is set; "failed" if its proof was withdrawn; else that of its run'),
  verified_at: time.nullable().describe('When its bytes were last read back and matched'),
  proven_at: time
    .nullable()
    .describe('When it was last restored and compared; null if never, or if its proof was withdrawn'),
  restore_seconds: z.number().min(0).nullable().describe('Time of that restore: what a recovery takes'),
  fault: z
    .object({ found_at: time, code: z.string(), detail: z.string() })
    .nullable()
    .describe('Why its proof failed or was withdrawn. A later proof removes it'),
});

/** Describes one backup of the catalogue. */
export type StoredBackup = z.output<typeof storedBackupSchema>;

export const storedBackupPageSchema = z.object({
  backups: z.array(storedBackupSchema).describe('Newest first'),
  next: z.string().nullable().describe('Value of "before" for the next page; null on the last page'),
});

export const backupRunListSchema = z.object({ runs: z.array(backupRunSchema).describe('Newest first') });

export const deletedBackupSchema = z.object({ name: z.string() });

export const storedBackupsStatusSchema = z.object({
  store: z.string().describe('Address of the store'),
  up: z.boolean().nullable().describe('Whether the last check by this node succeeded; null before the first'),
  fault: z
    .object({ code: z.string(), detail: z.string(), since: time })
    .nullable()
    .describe('Why the last check failed'),
  next_slot_at: time.nullable(),
  next_drill_at: time.nullable(),
  last_success_at: time.nullable().describe('End of the last run that wrote and proved a backup'),
  last_proven_at: time.nullable().describe('Snapshot of the newest backup that is proven: it could be restored now'),
  last_restore_seconds: z.number().min(0).nullable().describe('Time of the last proof: what a recovery takes'),
  last_bytes: count.nullable(),
  faulty_backups: count
    .nullable()
    .describe('Number of backups in the catalogue with a fault; null while the database is unreachable'),
  last_failure: backupRunSchema
    .nullable()
    .describe('The last failed backup or drill, if none of its class has succeeded after it'),
  running: z.array(backupRunSchema).nullable().describe('Runs of all nodes; null while the database is unreachable'),
});

export const storedManifestSchema = z.object({
  loom_stored_backup: z.literal(1),
  name: z.string(),
  bytes: count,
  sha256,
  backend: z.literal('postgres'),
  instance_id: z.string(),
  state_key: z.string(),
  schema_version: z.int(),
  epoch,
  revision,
  taken_at: time,
  documents: count,
  audit_entries: count,
  audit_head: auditHeadSchema,
  state_sha256: sha256.nullable().describe('Null for an encrypted backup: it would let a reader guess small states'),
  compression: z.literal('gzip'),
  encryption: z
    .object({ format: z.literal('age'), recipients: z.array(z.string()) })
    .nullable()
    .describe('The public keys whose owners can decrypt it; null for a backup in plain text'),
});

/** Describes a stored backup to a reader who has nothing but the store. It lies next to the backup. */
export type StoredManifest = z.output<typeof storedManifestSchema>;

/** Names a run that this node has claimed. */
export interface ClaimedRun {
  id: string;
  kind: RunKind;
  slot: Date;
  attempt: number;
  /** The stored backup to prove, for a drill; null for other kinds. */
  name: string | null;
}

/** What is known of a backup when it has been written. */
export interface WrittenBackup {
  bytes: number;
  sha256: string;
  manifestSha256: string;
}

/** A stored backup with what its proof and its deletion compare. */
export interface CatalogueEntry extends StoredBackup {
  runId: string;
  manifestSha256: string | null;
  /** Id of the store that has it. Null before the run has named the backup. */
  storeId: string | null;
  /** Whether the run that wrote it is still `running` with a valid lease. */
  isBeingWritten: boolean;
  /** Whether it belongs to this database. A copy of a database has the catalogue of its original, too. */
  isOwn: boolean;
  /** Set when a deletion has begun that may not have ended. */
  deletionBegunAt: string | null;
}

/**
 * Records the runs of one state, in the database. All times are of the database's clock. A verb on a claimed run
 * resolves to false, and changes nothing, when the run is no longer this node's: its lease has expired and another node
 * has taken over.
 */
export interface RunLedger extends StoreClaims {
  readClock(): Promise<Date>;
  /** Claims the first attempt at a slot. Undefined if the slot has an attempt already. */
  claimSlot(kind: 'scheduled' | 'drill', slot: Date, name?: string): Promise<ClaimedRun | undefined>;
  /** Claims a run that was requested now. For a drill, `name` is the backup to prove. */
  claimNow(kind: 'manual' | 'drill', name?: string): Promise<ClaimedRun>;
  /**
   * Takes over one run: marks an attempt with an expired lease as `abandoned` and claims the next, or claims the next
   * attempt after a failed one whose backoff is over. Undefined if nothing is due.
   */
  claimRetry(): Promise<ClaimedRun | undefined>;
  /** Extends the lease. */
  renew(run: ClaimedRun): Promise<boolean>;
  /** Records the name before the store has the object, so no object lacks a row. Throws `state_busy` if it is taken. */
  nameBackup(
    run: ClaimedRun,
    backup: { name: string; takenAt: string; revision: number; encrypted: boolean; storeId: string },
  ): Promise<boolean>;
  /** Takes the name off again: the store has the object of somebody else under it. */
  unnameBackup(run: ClaimedRun): Promise<void>;
  recordWritten(run: ClaimedRun, written: WrittenBackup): Promise<boolean>;
  /** Ends the run as proven, and dates the proof of the backup. */
  recordProven(run: ClaimedRun, proof: { restoreSeconds: number }): Promise<boolean>;
  /** Ends a drill that could not decrypt: only the bytes were compared. */
  recordVerified(run: ClaimedRun, detail: string): Promise<boolean>;
  /** Ends the run as failed. With `withdraws`, also withdraws the proof of its backup, and notes the fault there. */
  recordFailed(run: ClaimedRun, fault: { code: string; detail: string; withdraws: boolean }): Promise<boolean>;
  /**
   * Ends the lease of a run that this node has aborted because it is shutting down. So another node takes over at once,
   * without the pause after a failure.
   */
  release(run: ClaimedRun): Promise<boolean>;
  readRun(id: string): Promise<BackupRun | undefined>;
  /** Lists the runs, newest first. */
  listRuns(query: { limit: number }): Promise<BackupRun[]>;
  /** Lists the stored backups, newest first, without the deleted ones. `before` is the name of the last one seen. */
  listBackups(query: { limit: number; before?: string | undefined }): Promise<CatalogueEntry[]>;
  readBackup(name: string): Promise<CatalogueEntry | undefined>;
  /** Returns the newest complete backup. It says which store the catalogue describes. Undefined if there is none. */
  readNewestComplete(): Promise<CatalogueEntry | undefined>;
  /** Selects the backup whose last proof, or last attempt at one, is the oldest. Undefined if there is none. */
  nextToProve(): Promise<string | undefined>;
  /**
   * Marks a backup for deletion, in one statement with the rules that forbid it: the newest proven backup, the last
   * one, and one that is being written or proved stay. False if one of them applies.
   */
  beginDeletion(name: string): Promise<boolean>;
  /** Takes the mark off again: the object differs from the catalogue, or the rules keep it now. */
  cancelDeletion(name: string, fault?: { code: string; detail: string }): Promise<void>;
  recordDeleted(name: string): Promise<void>;
  /**
   * Withdraws the proof of a complete backup and notes the fault. Changes nothing while a run writes it or a deletion
   * goes on. Returns whether it was noted.
   */
  noteFault(name: string, fault: { code: string; detail: string }): Promise<boolean>;
  /** Records that the store no longer has the object of a run that ended before it was written. */
  recordNeverWritten(name: string): Promise<void>;
  /** Returns the values for status, metrics and alarms, with one short statement. */
  observe(): Promise<RunObservation>;
}

export interface RunObservation {
  /** End of the last run that wrote a backup and proved it. */
  lastSuccessAt: string | null;
  /**
   * Time of the snapshot of the newest backup with a proof: what a restore would bring back. A drill of an old backup
   * does not move it, and a withdrawn proof moves it back.
   */
  lastProvenAt: string | null;
  /** Time of the restore of the last proof, also by a drill. */
  lastRestoreSeconds: number | null;
  /** Size of the backup of the last success. */
  lastBytes: number | null;
  /** Number of backups of the catalogue that have a fault. A later proof or a deletion ends it. */
  faultyBackups: number;
  /** The last failed run, if none has succeeded after it. */
  lastFailure: BackupRun | null;
  running: BackupRun[];
  /** Ended runs by kind and outcome since the first one. */
  counts: { kind: RunKind; outcome: RunOutcome; count: number }[];
}

/** Defines the verbs on stored backups that routes call. */
export interface StoredBackups {
  /** Names the store for people, as `ObjectStore.address` does. */
  readonly store: string;
  list(query: { limit: number; before?: string | undefined }): Promise<StoredBackup[]>;
  listRuns(query: { limit: number }): Promise<BackupRun[]>;
  readRun(id: string): Promise<BackupRun | undefined>;
  /** Starts a run at once, and returns it. `ended` resolves with the run when it has ended. */
  take(): Promise<StartedRun>;
  drill(name: string): Promise<StartedRun>;
  /** Opens the stored object, as it lies there. */
  open(name: string, signal: AbortSignal): Promise<{ backup: StoredBackup; body: Readable }>;
  /** Opens the stored backup as the text of a backup: decrypted and decompressed. Its digest is compared at the end. */
  openPlain(name: string, signal: AbortSignal): Promise<Readable>;
  remove(name: string): Promise<void>;
  observe(): Promise<StoredBackupsObservation>;
}

export interface StartedRun {
  run: BackupRun;
  ended: Promise<BackupRun>;
}

export interface StoredBackupsObservation extends RunObservation {
  /** The store, without secrets. */
  store: string;
  /** The last check of the store by this node; null before the first. */
  storeFault: { code: string; detail: string; since: string } | null;
  storeIsUp: boolean | null;
  nextSlotAt: string | null;
  nextDrillAt: string | null;
}

/** Creates the error of a node without a backup store. */
export function storeNotConfigured(): LoomError {
  return new LoomError(
    'store_not_configured',
    'This node has no backup store, so there are no stored backups. Set LOOM_BACKUP_STORE and restart the node.',
  );
}

/** Creates the error for a name that the catalogue does not have. A client can send a name of any length. */
export function storedBackupNotFound(name: string): LoomError {
  return new LoomError(
    'stored_backup_not_found',
    `The catalogue has no stored backup ${JSON.stringify(shortText(name))}, or it is being deleted. List the stored ` +
      'backups to see their names.',
  );
}
