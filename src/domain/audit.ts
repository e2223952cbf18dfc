// src/domain/ is the vocabulary: the types that the rooms pass to each other, and the rules for names and tags. It is
// pure: it may import errors, limits and zod. It must not know PostgreSQL, HTTP, files or clocks.

import { z } from 'zod';
import { commitActions } from './commit.ts';
import { count, epoch, eventId, revision, seq, sha256, time } from './forms.ts';

export const auditHeadSchema = z.object({
  seq: seq.describe('0 for an empty trail'),
  hash: sha256,
});

/** Identifies the last entry of an audit trail. An empty trail has seq 0 and `GENESIS_HASH`. */
export type AuditHead = z.output<typeof auditHeadSchema>;

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

/**
 * Defines an entry of `GET /v1/audit`. The trail of another program can have actions and members of its own, and lack
 * those that are optional here.
 */
export const auditEntrySchema = z.looseObject({
  seq: seq.min(1),
  hash: sha256.describe('SHA-256 of the previous hash and the canonical text of the entry without this member'),
  event_id: eventId,
  recorded_at: time,
  action: z.string().describe(`One of ${auditActions.join(', ')}, or an action of another program`),
  actor: z.string().nullish().describe('Kind of token, or "loom" for the action "epoch"'),
  actor_name: z.string().exactOptional().describe('On whose behalf the request was made'),
  request_id: z.string().nullish(),
  revision: revision.exactOptional().describe('Revision of the state after the entry'),
  epoch: epoch.exactOptional(),
  changes: z.array(z.unknown()).exactOptional().describe('Changes of documents'),
  idempotency_key: z.string().exactOptional(),
});

/** Describes the members of an entry that the client commands use. */
export type ListedEntry = Pick<z.output<typeof auditEntrySchema>, 'seq' | 'hash' | 'action' | 'event_id'>;

export const auditPageSchema = z.object({
  entries: z.array(auditEntrySchema),
  next: seq.nullable().describe('Value of "after" (or "before" with order=desc) for the next page; null on the last'),
  head: auditHeadSchema,
});

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
 * Lists what may not match the trail: an entry's digest of a change, the changes that a restore claims, the index of
 * changes, a document, the state row, or an undo record. `definition_mismatch`: a function or trigger of LOOM is not as
 * the migrations created it.
 */
export const stateFaults = [
  'definition_mismatch',
  'digest_mismatch',
  'changes_mismatch',
  'index_mismatch',
  'document_mismatch',
  'state_mismatch',
  'undo_record_mismatch',
] as const;

export type StateFault = (typeof stateFaults)[number];

export const auditMismatchSchema = z.object({
  reason: z.enum(stateFaults),
  seq: seq.exactOptional().describe('Seq of the entry, if the fault has one'),
  document: z.string().exactOptional().describe('Name of the document, if the fault has one'),
  event_id: z.string().exactOptional().describe('Event id of the undo record, if the fault has one'),
  detail: z.string(),
});

export type AuditMismatch = z.output<typeof auditMismatchSchema>;

/** Reports the result of checking only the chain in the database. */
export type ChainVerdict =
  | { ok: true; entries: number; head: AuditHead }
  | { ok: false; entries: number; head: AuditHead; first_bad_seq: number; reason: ChainFault; detail: string };

const checkedTrailSchema = z.object({
  entries: count,
  head: auditHeadSchema,
  told_from_seq: seq.describe(
    'The first seq from which the trail alone makes the state. Before it, a node of an older version made a restore',
  ),
  untold_documents: count.describe(
    'Documents whose last change the trail does not tell, so that they cannot be checked',
  ),
});

export const auditVerdictSchema = z.discriminatedUnion('ok', [
  checkedTrailSchema.extend({ ok: z.literal(true) }),
  checkedTrailSchema.extend({
    ok: z.literal(false),
    first_bad_seq: seq.nullable().describe('Null if every entry is valid, and only what the trail makes was changed'),
    reason: z.enum([...chainFaults, ...stateFaults]),
    detail: z.string(),
    document: z.string().exactOptional().describe('The first document among the mismatches'),
    mismatches: z
      .array(auditMismatchSchema)
      .describe('What does not match, except for the chain: up to a maximum number of each reason'),
    mismatch_count: count,
  }),
]);

/** Reports the result of checking the complete trail in the database, and the state against it. */
export type AuditVerdict = z.output<typeof auditVerdictSchema>;
