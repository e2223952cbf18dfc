import { createHash } from 'node:crypto';
import type { BackupHeader, BackupManifest } from '../../domain/backup.ts';
import type { StoredManifest } from '../../domain/backup-run.ts';
import { storedManifestSchema } from '../../domain/backup-run.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { manifestNameOf, parseStoredName } from './stored-name.ts';

/** Returns the text of a manifest, for people and programs. Throws if a reader would refuse it. */
export function writeStoredManifest(manifest: StoredManifest): string {
  const text = `${JSON.stringify(storedManifestSchema.parse(manifest), null, 2)}\n`;
  parseStoredManifest(text, manifest.name);
  return text;
}

/**
 * Reads the text of the manifest that lies next to the backup `name`. Throws `stored_manifest_invalid`. A copy outside
 * of a store may have another name.
 */
export function parseStoredManifest(
  text: string,
  name: string,
  { mayBeRenamed = false }: { mayBeRenamed?: boolean } = {},
): StoredManifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalid(name, 'It is not valid JSON, or it is cut off.');
  }
  const { data, error } = storedManifestSchema.safeParse(value);
  if (data === undefined) {
    const [issue] = error.issues;
    const member = issue === undefined || issue.path.length === 0 ? 'The text' : `The member "${issue.path.join('.')}"`;
    throw invalid(name, `${member} has an unexpected value: ${issue?.message ?? 'unknown'}.`);
  }
  if (data.name !== name && !mayBeRenamed)
    throw invalid(name, `It belongs to another backup: ${JSON.stringify(data.name)}.`);
  const isNamedEncrypted = parseStoredName(data.name)?.encrypted;
  if (isNamedEncrypted !== undefined && isNamedEncrypted !== (data.encryption !== null))
    throw invalid(name, `Its member "encryption" does not agree with the name of the backup.`);
  return data;
}

/** Reads a manifest from a store, and the digest of its bytes. Throws `stored_manifest_invalid`. */
export async function readStoredManifest(
  content: AsyncIterable<Uint8Array>,
  name: string,
): Promise<{ manifest: StoredManifest; sha256: string }> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of content) {
    bytes += chunk.length;
    if (bytes > limits.maxStoredManifestBytes)
      throw invalid(name, `It has more than ${limits.maxStoredManifestBytes} bytes.`);
    chunks.push(chunk);
  }
  const all = Buffer.concat(chunks);
  return {
    manifest: parseStoredManifest(all.toString('utf8'), name),
    sha256: createHash('sha256').update(all).digest('hex'),
  };
}

/** Names what a backup says of itself, beside what its manifest in the store says. */
type BackupMembers = Pick<BackupHeader, 'instance_id' | 'state_key' | 'schema_version' | 'epoch' | 'revision'> &
  Pick<BackupManifest, 'documents' | 'audit_entries' | 'audit_head' | 'state_sha256'>;

/** Throws `stored_manifest_invalid` unless the manifest in the store says the same as the backup itself. */
export function assertManifestOf(stored: StoredManifest, backup: BackupMembers): void {
  const members = [
    'instance_id',
    'state_key',
    'schema_version',
    'epoch',
    'revision',
    'documents',
    'audit_entries',
  ] as const;
  const pairs: [name: string, stored: unknown, own: unknown][] = members.map((one) => [one, stored[one], backup[one]]);
  pairs.push(['audit_head.seq', stored.audit_head.seq, backup.audit_head.seq]);
  pairs.push(['audit_head.hash', stored.audit_head.hash, backup.audit_head.hash]);
  if (stored.state_sha256 !== null) pairs.push(['state_sha256', stored.state_sha256, backup.state_sha256]);
  for (const [member, claimed, own] of pairs) {
    if (claimed === own) continue;
    const found = `Its member "${member}" is ${JSON.stringify(claimed)}, and the backup itself has ${JSON.stringify(own)}.`;
    throw invalid(stored.name, found);
  }
}

function invalid(name: string, found: string): LoomError {
  return new LoomError(
    'stored_manifest_invalid',
    `The manifest ${JSON.stringify(manifestNameOf(name))} is not valid. ${found} Look for another copy of the backup and ` +
      'its manifest.',
  );
}
