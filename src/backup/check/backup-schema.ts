import { z } from 'zod';
import { auditEntrySchema } from '../../domain/audit.ts';
import { documentsByName, sha256 } from '../../domain/forms.ts';
import { restoreRequestSchema } from '../../domain/request.ts';
import { headerSchema, manifestSchema, unverifiedSchema } from './frame.ts';

// These schemas describe whole backups for the OpenAPI document. Nothing parses a backup with them, because it can be
// larger than memory: the decoder reads it, and `frame.ts` checks its frame with the schemas of which these consist.

const content = {
  document_sha256: z.record(z.string(), sha256).describe('The digest of each document, under the same name'),
  audit_entries: z.array(auditEntrySchema).describe('Absent with include_audit=false'),
};

/** Describes the backup that a node exports. */
export const backupSchema = headerSchema.extend({
  state: documentsByName,
  document_sha256: content.document_sha256,
  audit_entries: content.audit_entries.exactOptional(),
  manifest: manifestSchema,
});

/** Describes a backup without a manifest, of a public node or of another tool. */
const unverifiedBackupSchema = unverifiedSchema.extend({
  loom_backup_version: headerSchema.shape.loom_backup_version,
  state: documentsByName.exactOptional(),
  document_sha256: content.document_sha256.exactOptional(),
  audit_entries: z.array(z.looseObject({})).exactOptional(),
});

export const restorableBackupSchema = z.union([backupSchema, unverifiedBackupSchema]);

/** Describes the whole body of a restore request. */
export const restoreBodySchema = restoreRequestSchema.extend({
  backup: restorableBackupSchema.exactOptional().describe('Required, unless "from" names a stored backup'),
});
