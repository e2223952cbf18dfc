import { z } from 'zod';
import { limits } from '../limits.ts';
import type { AuditHead } from './audit.ts';
import { count, sha256, time } from './forms.ts';

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

export const epochChangeSchema = z.object({
  at: time,
  reason: z
    .enum(['lineage', 'revision'])
    .describe('lineage: another cluster, timeline or database; revision: a smaller revision than a node had seen'),
});

export type EpochChange = z.output<typeof epochChangeSchema>;

const migrationSchema = z.object({ version: z.int(), name: z.string() });

export const schemaReportSchema = z.object({
  backend: z.literal('postgres'),
  state_key: z.string(),
  initialized: z.boolean(),
  schema_version: z.int().nullable(),
  supported_schema_version: z.int(),
  compatible_from: z.int().nullable().describe('The oldest schema version whose nodes may use the database'),
  instance_id: z.string().nullable(),
  applied: z.array(migrationSchema.extend({ sha256, applied_at: time })),
  pending: z.array(migrationSchema).describe('Migrations that this node would still apply'),
});

/** Describes the answer of `GET /v1/admin/persistence/schema`. */
export type SchemaReport = z.output<typeof schemaReportSchema>;

/** Describes the schema of the database, and the migrations that this node would still apply. */
export interface SchemaStatus {
  initialized: boolean;
  schemaVersion: number | null;
  compatibleFrom: number | null;
  instanceId: string | null;
  applied: SchemaReport['applied'];
  pending: SchemaReport['pending'];
}

export const scratchStateSchema = z.object({
  state_key: z.string(),
  created_at: time,
  documents: count,
  bytes: count.describe('Total length of the canonical texts of its documents'),
  audit_entries: count,
});

/** Describes a state that a restore created beside the live state (`into_scratch`). */
export type ScratchState = z.output<typeof scratchStateSchema>;

export const droppedScratchSchema = z.object({
  dropped: z.literal(true),
  ...scratchStateSchema.pick({ state_key: true, documents: true, audit_entries: true }).shape,
});

export type DroppedScratch = z.output<typeof droppedScratchSchema>;

const lockHolderSchema = z.object({
  pid: z.int().describe('Process id of its connection in PostgreSQL'),
  application_name: z.string().nullable().describe('"loom" for a node. Null if the database role may not see it'),
  since: time.nullable().describe('When the transaction began. Null if the database role may not see it'),
});

/** Describes a transaction that holds a lock. */
export type LockHolder = z.output<typeof lockHolderSchema>;

export const stateLocksSchema = z.object({
  state: lockHolderSchema
    .nullable()
    .describe('Holder of the state row. Commits wait for it. A batch of commits holds the row for a moment'),
  restore: lockHolderSchema.nullable().describe('Holder of the lock for restores, undos and dry runs'),
});

export type StateLocks = z.output<typeof stateLocksSchema>;

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
