import { z } from 'zod';
import { type AuditHead, auditHeadSchema } from './audit.ts';
import { count, epoch, eventId, revision, seq, sha256, time } from './forms.ts';

export const BACKUP_VERSION = 1;

/** Describes the members before `state` in a backup. Times are RFC 3339 in UTC with microseconds. */
export interface BackupHeader {
  loom_backup_version: number;
  backend: string;
  instance_id: string;
  state_key: string;
  schema_version: number;
  epoch: string;
  revision: number;
  exported_at: string;
  state_updated_at: string;
}

/**
 * Describes the last member of a backup. Digests are SHA-256 in lower-case hex. They cover values, so they do not
 * depend on whitespace or escapes:
 * - `state_sha256`: of sha256(name) ‖ sha256(canonical text of the value), documents in byte order of their names;
 * - `sha256`: of the canonical text of `{"header": …, "manifest": …}` with all members except this one.
 */
export interface BackupManifest {
  documents: number;
  state_sha256: string;
  audit_included: boolean;
  audit_entries: number;
  audit_first: { seq: number; previous_hash: string } | null;
  audit_head: AuditHead;
  audit_verified: boolean;
  sha256: string;
}

export interface BackupOptions {
  includeAudit: boolean;
  /** Number of newest entries to include; all when undefined. */
  auditLimit?: number | undefined;
  /** Name of the scratch state to export instead of the live state. */
  scratch?: string | undefined;
}

const documentCountsSchema = z.object({ added: count, changed: count, removed: count, unchanged: count });

export type DocumentCounts = z.output<typeof documentCountsSchema>;

const documentNamesSchema = z.object({
  added: z.array(z.string()),
  changed: z.array(z.string()),
  removed: z.array(z.string()),
  truncated: z.boolean().describe('Whether a list was cut off at the maximum number of names'),
});

export type DocumentNames = z.output<typeof documentNamesSchema>;

const operationAuditSchema = z.object({
  imported: count.describe('Entries imported, each inside a new audit.import entry'),
  previous_head: auditHeadSchema,
  head: auditHeadSchema.nullable().describe('Null in a dry run'),
});

export const operationReportSchema = z.object({
  dry_run: z.boolean(),
  replaced_state: z.boolean(),
  imported_audit_count: count.describe('Number of adopted and imported entries'),
  revision,
  epoch: epoch
    .nullable()
    .describe('Null in a dry run that would replace the state, because only the operation itself creates a new epoch'),
  based_on_revision: revision.describe(
    'The live revision that the figures refer to. Pass it as expect_revision to get exactly this result',
  ),
  event_id: eventId.nullable().describe('Null in a dry run'),
  documents: documentCountsSchema,
  document_names: documentNamesSchema,
  audit: operationAuditSchema,
  warnings: z.array(z.string()),
});

/** Reports what a restore or undo did or, with `dry_run`, would do. */
export type OperationReport = z.output<typeof operationReportSchema>;

export const restoreReportSchema = operationReportSchema.extend({
  restored_at: time.nullable().describe('Null in a dry run'),
  truncated_audit: z.boolean().describe('Whether truncation was requested'),
  replaced_audit_count: count.describe('Number of entries removed from the live trail'),
  verified: z
    .boolean()
    .describe('Whether the backup had a manifest. A restore always refuses a backup that does not match its manifest'),
  audit: operationAuditSchema.extend({
    adopted: count.describe('Entries adopted unchanged, with seq and hash'),
    replaced: count.describe('Entries removed from the live trail'),
    parted_at: seq.nullable().describe('The first seq at which the trails differ; null when one contains the other'),
    backup_head: auditHeadSchema.nullable().describe('Null when the backup is unverified'),
  }),
  backup: z
    .object({
      instance_id: z.string().nullable(),
      state_key: z.string().nullable(),
      version: z.int().describe('Value of loom_backup_version'),
      schema_version: z.int().nullable(),
      taken_at: z.string().nullable().describe('Time at which the export began'),
      revision: revision.nullable(),
    })
    .describe('The origin of the backup, according to its header. A member that the header lacks is null'),
  live: z
    .object({ instance_id: z.string().nullable(), state_key: z.string(), revision })
    .describe('The database and state of the node. The revision is the one before the restore'),
  instance_differs: z
    .boolean()
    .nullable()
    .describe('Whether the backup was made in another database; null when the backup does not say'),
  stored_backup: z.string().nullable().describe('Name of the stored backup; null for a backup in the body'),
  selected_documents: z
    .array(z.string())
    .nullable()
    .describe(
      'The member "documents" of the request: only these were restored. Null for a restore of the whole backup',
    ),
  scratch: z
    .object({ state_key: z.string(), state_sha256: sha256.nullable(), audit_head: auditHeadSchema.nullable() })
    .nullable()
    .describe('The new scratch state, as read from the database; a dry run only names it. Otherwise null'),
});

export type RestoreReport = z.output<typeof restoreReportSchema>;
