import { z } from 'zod';
import { BACKUP_VERSION, type BackupHeader, type BackupManifest, type RestoreOptions } from '../domain/backup.ts';
import { LoomError } from '../errors.ts';
import { limits } from '../limits.ts';
import type { BackupFrame, Decoded } from './decoder.ts';
import { manifestDigest } from './digests.ts';

const seq = z.int().min(0);
const hex = z.string().regex(/^[0-9a-f]{64}$/);

const headerSchema = z.looseObject({
  loom_backup_version: z.literal(BACKUP_VERSION),
  backend: z.literal('postgres'),
  instance_id: z.string(),
  state_key: z.string(),
  schema_version: z.int().min(1),
  epoch: z.string().min(1),
  revision: z.int().min(0).max(limits.backupRevision),
  exported_at: z.string(),
  state_updated_at: z.string(),
}) satisfies z.ZodType<BackupHeader>;

const manifestSchema = z.strictObject({
  documents: z.int().min(0),
  state_sha256: hex,
  audit_included: z.boolean(),
  audit_entries: z.int().min(0),
  audit_first: z.strictObject({ seq: z.int().min(1), previous_hash: hex }).nullable(),
  audit_head: z.strictObject({ seq, hash: hex }),
  audit_verified: z.boolean(),
  sha256: hex,
}) satisfies z.ZodType<BackupManifest>;

const requestSchema = z.strictObject({
  confirm: z.unknown(),
  replace_state: z.boolean().default(true),
  truncate_audit: z.boolean().default(false),
  dry_run: z.boolean().default(false),
  expect_revision: z.int().min(0).optional(),
  accept_state_key: z.string().optional(),
  accept_unverified: z.boolean().default(false),
});

/** A backup whose frame is sound: what remains to be checked are its documents and entries. */
export interface CheckedBackup {
  header: BackupHeader;
  manifest: BackupManifest;
  hasState: boolean;
  hasAudit: boolean;
}

export interface CheckedRequest {
  options: RestoreOptions;
  backup: CheckedBackup;
}

export interface CheckContext {
  stateKey: string;
  schemaVersion: number;
}

/**
 * Judges everything of a restore request that needs no database: the request's own members, then version, schema, header,
 * manifest and its digest, then whether this state may take it. Throws the first fault with its own code.
 */
export function checkRequest({ request, backup }: Decoded, context: CheckContext): CheckedRequest {
  const options = checkOptions(request);
  if (backup === undefined) {
    throw new LoomError('invalid_restore_request', 'The member "backup" is missing.', { pointer: '/backup' });
  }
  const checked = checkFrame(backup, '/backup', context.schemaVersion);
  const stateKey = checked.header.state_key;
  if (stateKey !== context.stateKey && stateKey !== options.acceptStateKey) {
    throw new LoomError(
      'state_key_mismatch',
      `The backup was made for state key ${JSON.stringify(stateKey)}, and this node serves ${JSON.stringify(context.stateKey)}. ` +
        'To restore it here all the same, name its state key in "accept_state_key".',
      { pointer: '/backup/state_key' },
    );
  }
  assertFits(options, checked);
  return { options, backup: checked };
}

function checkOptions(request: Record<string, unknown>): RestoreOptions {
  if (request.confirm !== 'restore') {
    throw new LoomError('confirm_missing', 'The body must have "confirm":"restore".', { pointer: '/confirm' });
  }
  const parsed = requestSchema.safeParse(request);
  if (!parsed.success) throw fault('invalid_restore_request', parsed.error, '');
  const { replace_state, truncate_audit, dry_run, expect_revision, accept_state_key, accept_unverified } = parsed.data;
  if (accept_unverified) {
    throw new LoomError('invalid_restore_request', 'This node restores only backups that it can verify.', {
      pointer: '/accept_unverified',
    });
  }
  return {
    replaceState: replace_state,
    truncateAudit: truncate_audit,
    dryRun: dry_run,
    ...(expect_revision === undefined ? {} : { expectRevision: expect_revision }),
    ...(accept_state_key === undefined ? {} : { acceptStateKey: accept_state_key }),
  };
}

/** Version, schema, header, manifest and the digest over both. `pointer` is where the backup stands. */
export function checkFrame(frame: BackupFrame, pointer: string, schemaVersion: number): CheckedBackup {
  if (!frame.hasState && !frame.hasAudit) {
    throw new LoomError('backup_empty', 'The backup has neither "state" nor "audit_entries".', { pointer });
  }
  const version = frame.header.loom_backup_version;
  if (version !== BACKUP_VERSION) {
    throw new LoomError(
      'backup_version_unknown',
      `The backup has loom_backup_version ${shortText(version)}; this node knows version ${BACKUP_VERSION}.`,
      { pointer: `${pointer}/loom_backup_version` },
    );
  }
  const backupSchema = frame.header.schema_version;
  if (typeof backupSchema === 'number' && backupSchema > schemaVersion) {
    throw new LoomError(
      'backup_schema_newer',
      `The backup has schema_version ${backupSchema}; this node knows schemas up to ${schemaVersion}.`,
      { pointer: `${pointer}/schema_version` },
    );
  }
  if (frame.manifest === undefined) {
    throw new LoomError('backup_unverified', 'The backup has no manifest: it is not whole, or of another tool.', {
      pointer: `${pointer}/manifest`,
    });
  }
  const header = headerSchema.safeParse(frame.header);
  if (!header.success) throw fault('backup_malformed', header.error, pointer);
  const manifest = manifestSchema.safeParse(frame.manifest);
  if (!manifest.success) throw fault('backup_malformed', manifest.error, `${pointer}/manifest`);
  if (manifestDigest(frame.header, manifest.data) !== manifest.data.sha256) {
    throw new LoomError('backup_digest_mismatch', 'The header or the manifest is not as it was written.', {
      pointer: `${pointer}/manifest/sha256`,
    });
  }
  if (manifest.data.audit_included !== frame.hasAudit || !frame.hasState) {
    const missing = frame.hasState ? 'audit_entries' : 'state';
    throw new LoomError('backup_count_mismatch', `The manifest does not fit: "${missing}" is missing or was added.`, {
      pointer: `${pointer}/${missing}`,
    });
  }
  return { header: header.data, manifest: manifest.data, hasState: frame.hasState, hasAudit: frame.hasAudit };
}

function assertFits(options: RestoreOptions, backup: CheckedBackup): void {
  if (options.truncateAudit && backup.manifest.audit_entries === 0) {
    throw new LoomError(
      'invalid_restore_request',
      'truncate_audit needs a backup with audit entries: this one would leave no history.',
      { pointer: '/truncate_audit' },
    );
  }
}

function fault(code: 'invalid_restore_request' | 'backup_malformed', error: z.ZodError, pointer: string): LoomError {
  const issue = error.issues[0];
  const unknown = issue?.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : [];
  const at = [...(issue?.path ?? []), ...unknown].map((step) => `/${String(step)}`).join('');
  return new LoomError(code, `${at === '' ? 'The value' : `"${at.slice(1)}"`} ${expectationOf(issue)}.`, {
    pointer: `${pointer}${at}`,
  });
}

function expectationOf(issue: z.core.$ZodIssue | undefined): string {
  if (issue?.code === 'unrecognized_keys') return 'is not known here';
  if (issue?.code === 'invalid_type')
    return `must be ${issue.expected === 'int' ? 'a whole number' : `of type ${issue.expected}`}`;
  if (issue?.code === 'invalid_value')
    return `must be ${issue.values.map((value) => JSON.stringify(value)).join(' or ')}`;
  if (issue?.code === 'invalid_format') return 'does not have the form that it must have';
  if (issue?.code === 'too_small') return `must be at least ${issue.minimum}`;
  if (issue?.code === 'too_big') return `must be at most ${issue.maximum}`;
  return 'is not valid';
}

function shortText(value: unknown): string {
  return value === undefined ? '(none)' : JSON.stringify(value).slice(0, 40);
}
