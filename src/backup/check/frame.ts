import { z } from 'zod';
import { BACKUP_VERSION, type BackupHeader, type BackupManifest } from '../../domain/backup.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { BackupFrame } from '../format/decoder.ts';
import { manifestDigest } from '../format/digests.ts';
import { toShapeError } from './shape.ts';

// src/backup/check/ validates a backup and a request without a database. It is pure: it may import ../format/, domain,
// errors, json, limits and zod. It must not know the source of the bytes. Some checks need all documents at once:
// ../offline/ runs them for a file, and PostgreSQL for a restore.

const seq = z.int().min(0);
const hex = z.string().regex(/^[0-9a-f]{64}$/);
const revision = z.int().min(0).max(limits.maxBackupRevision);
const schemaVersion = z.int().min(1);
const text = z.string().max(limits.maxBackupHeaderCharacters);

export const headerSchema = z.looseObject({
  loom_backup_version: z.literal(BACKUP_VERSION),
  backend: z.literal('postgres'),
  instance_id: text,
  state_key: text,
  schema_version: schemaVersion,
  epoch: text.min(1),
  revision,
  exported_at: text,
  state_updated_at: text,
}) satisfies z.ZodType<BackupHeader>;

export const manifestSchema = z.strictObject({
  documents: z.int().min(0),
  state_sha256: hex,
  audit_included: z.boolean(),
  audit_entries: z.int().min(0),
  audit_first: z.strictObject({ seq: z.int().min(1), previous_hash: hex }).nullable(),
  audit_head: z.strictObject({ seq, hash: hex }),
  audit_verified: z.boolean(),
  sha256: hex,
}) satisfies z.ZodType<BackupManifest>;

/** Defines the header members that LOOM uses from a backup without a manifest. Each may be absent. */
export const unverifiedSchema = z.looseObject({
  state_key: text.nullish(),
  schema_version: schemaVersion.nullish(),
  instance_id: text.nullish(),
  epoch: text.nullish(),
  revision: revision.nullish(),
  exported_at: text.nullish(),
});

/** Describes the origin of a backup according to its header. A member that the header lacks is null. */
export interface BackupOrigin {
  instanceId: string | null;
  stateKey: string | null;
  epoch: string | null;
  revision: number | null;
  schemaVersion: number | null;
  exportedAt: string | null;
}

interface BackupParts {
  origin: BackupOrigin;
  hasState: boolean;
  hasDigests: boolean;
  hasAudit: boolean;
}

/** Describes a backup with a manifest. `checkStage` and `verifyBackup` check documents and entries against it. */
export interface VerifiableBackup extends BackupParts {
  verified: true;
  header: BackupHeader;
  manifest: BackupManifest;
}

/** Describes a backup without a manifest. Its completeness cannot be verified. */
export interface UnverifiedBackup extends BackupParts {
  verified: false;
}

/** Describes a backup with a valid frame. Its documents and entries are still unchecked. */
export type CheckedBackup = VerifiableBackup | UnverifiedBackup;

export interface FrameOptions {
  /** The newest known schema version. */
  schemaVersion: number;
  /** Whether to accept a backup without a manifest. LOOM always accepts the backup of a public node. */
  acceptUnverified: boolean;
}

/**
 * Checks version, schema, header, manifest and the digest over both. Checks a manifest even with `acceptUnverified`.
 * `pointer` leads to the backup.
 */
export function checkFrame(frame: BackupFrame, pointer: string, options: FrameOptions): CheckedBackup {
  if (!frame.hasState && !(frame.hasAudit && (frame.auditEntries > 0 || frame.manifest !== undefined))) {
    throw new LoomError('backup_empty', 'The backup has neither "state" nor "audit_entries".', { pointer });
  }
  const version = frame.header.loom_backup_version;
  if (version !== BACKUP_VERSION) {
    throw new LoomError(
      'backup_version_unknown',
      `Member "loom_backup_version" is ${shortText(version)}; expected ${BACKUP_VERSION}.`,
      { pointer: `${pointer}/loom_backup_version` },
    );
  }
  const { schema_version: backupSchema, epoch } = frame.header;
  // Without an epoch the backup is not LOOM's own: a public node counts its own schemas.
  if (epoch !== undefined && typeof backupSchema === 'number' && backupSchema > options.schemaVersion) {
    throw new LoomError(
      'backup_schema_newer',
      `Member "schema_version" is ${backupSchema}; this LOOM supports versions up to ${options.schemaVersion}. ` +
        'Restore the backup with a newer LOOM.',
      { pointer: `${pointer}/schema_version` },
    );
  }
  return frame.manifest === undefined ? checkUnverified(frame, pointer, options) : checkManifest(frame, pointer);
}

/**
 * Recognizes the backup of a public LOOM node, which has no manifest, epoch or digests. A backup with one or two of
 * these is damaged.
 */
function isOfPublicNode({ header, manifest, hasDigests }: BackupFrame): boolean {
  const hasNone = header.epoch === undefined && manifest === undefined && !hasDigests;
  return hasNone && header.loom_backup_version === BACKUP_VERSION && typeof header.state_key === 'string';
}

function checkUnverified(frame: BackupFrame, pointer: string, { acceptUnverified }: FrameOptions): UnverifiedBackup {
  if (!acceptUnverified && !isOfPublicNode(frame)) {
    throw new LoomError(
      'backup_unverified',
      'The backup has no manifest: it is incomplete, or another tool made it. Use a backup with a manifest, ' +
        'or restore this one with "accept_unverified".',
      { pointer: `${pointer}/manifest` },
    );
  }
  const header = unverifiedSchema.safeParse(frame.header);
  if (!header.success) throw toShapeError('backup_malformed', header.error, pointer);
  const { instance_id, state_key, schema_version, epoch, revision, exported_at } = header.data;
  return {
    verified: false,
    ...partsOf(frame, {
      instanceId: instance_id ?? null,
      stateKey: state_key ?? null,
      epoch: epoch ?? null,
      revision: revision ?? null,
      schemaVersion: schema_version ?? null,
      exportedAt: exported_at ?? null,
    }),
  };
}

function checkManifest(frame: BackupFrame, pointer: string): VerifiableBackup {
  const header = headerSchema.safeParse(frame.header);
  if (!header.success) throw toShapeError('backup_malformed', header.error, pointer);
  const manifest = manifestSchema.safeParse(frame.manifest);
  if (!manifest.success) throw toShapeError('backup_malformed', manifest.error, `${pointer}/manifest`);
  if (manifestDigest(frame.header, manifest.data) !== manifest.data.sha256) {
    throw new LoomError('backup_digest_mismatch', 'The digest of header and manifest does not match their content.', {
      pointer: `${pointer}/manifest/sha256`,
    });
  }
  if (manifest.data.audit_included !== frame.hasAudit || !frame.hasState) {
    const member = frame.hasState ? 'audit_entries' : 'state';
    const fault = frame.hasState && frame.hasAudit ? 'was added' : 'is missing';
    throw new LoomError('backup_count_mismatch', `According to the manifest, "${member}" ${fault}.`, {
      pointer: `${pointer}/${member}`,
    });
  }
  const { epoch, revision } = header.data;
  return {
    verified: true,
    header: header.data,
    manifest: manifest.data,
    ...partsOf(frame, {
      instanceId: header.data.instance_id,
      stateKey: header.data.state_key,
      epoch,
      revision,
      schemaVersion: header.data.schema_version,
      exportedAt: header.data.exported_at,
    }),
  };
}

function partsOf({ hasState, hasDigests, hasAudit }: BackupFrame, origin: BackupOrigin): BackupParts {
  return { origin, hasState, hasDigests, hasAudit };
}

function shortText(value: unknown): string {
  return value === undefined ? 'missing' : JSON.stringify(value).slice(0, 40);
}
