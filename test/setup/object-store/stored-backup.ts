import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { encryptStream } from '../../../src/backup/stored/encryption.ts';
import { writeStoredManifest } from '../../../src/backup/stored/stored-manifest.ts';
import { makeStoredName, manifestNameOf } from '../../../src/backup/stored/stored-name.ts';
import type { BackupHeader, BackupManifest } from '../../../src/domain/backup.ts';
import type { StoredManifest } from '../../../src/domain/backup-run.ts';

/** A backup and its manifest, as a run puts them into a store. */
export interface StoredFiles {
  name: string;
  content: Buffer;
  manifest: StoredManifest;
  manifestName: string;
  manifestText: string;
}

/** Packs the text of a backup, encrypted for the recipients if there are any. */
export async function packBackup(text: string, recipients: readonly string[] = []): Promise<StoredFiles> {
  const { manifest: own, ...header }: BackupHeader & { manifest: BackupManifest } = JSON.parse(text);
  const encrypted = recipients.length > 0;
  const name = makeStoredName({
    stateKey: header.state_key,
    takenAt: header.exported_at,
    revision: header.revision,
    encrypted,
  });
  const gzip = gzipSync(text);
  const content = encrypted ? await buffer(await encryptStream(Readable.from([gzip]), recipients)) : gzip;
  const manifest: StoredManifest = {
    loom_stored_backup: 1,
    name,
    bytes: content.length,
    sha256: createHash('sha256').update(content).digest('hex'),
    backend: 'postgres',
    instance_id: header.instance_id,
    state_key: header.state_key,
    schema_version: header.schema_version,
    epoch: header.epoch,
    revision: header.revision,
    taken_at: header.exported_at,
    documents: own.documents,
    audit_entries: own.audit_entries,
    audit_head: own.audit_head,
    state_sha256: encrypted ? null : own.state_sha256,
    compression: 'gzip',
    encryption: encrypted ? { format: 'age', recipients: [...recipients] } : null,
  };
  return { name, content, manifest, manifestName: manifestNameOf(name), manifestText: writeStoredManifest(manifest) };
}
