import { chainHash, sha256 } from '../../../src/backup/format/digests.ts';
import { createBackupEncoder } from '../../../src/backup/format/encoder.ts';
import { GENESIS_HASH } from '../../../src/domain/audit.ts';
import type { BackupHeader } from '../../../src/domain/backup.ts';
import { canonicalize } from '../../../src/json/canonical.ts';

export interface BackupContent {
  header?: Partial<BackupHeader>;
  /** Names and JSON texts in any spelling. */
  documents: [name: string, text: string][];
  /** JSON texts of all entries or of the last ones, as `entryText` returns them. `undefined` omits the trail. */
  entries?: string[];
  /** The entry before the first one. */
  previous?: { seq: number; hash: string };
}

/** Writes a backup without a database. The bytes are the same at any time and on any machine. */
export function writeBackup({ header, documents, entries, previous }: BackupContent): string {
  const encoder = createBackupEncoder();
  const sorted = documents
    .map(([name, text]) => ({ name: Buffer.from(name), text: Buffer.from(canonicalize(text)) }))
    .sort((one, other) => Buffer.compare(one.name, other.name));
  const parts: (string | Buffer)[] = [encoder.begin({ ...plainHeader, ...header })];
  for (const { name, text } of sorted) parts.push(encoder.document(name, text));
  parts.push(encoder.beginDigests());
  for (const { name, text } of sorted) parts.push(encoder.digest(name, sha256(text).toString('hex')));
  let head = previous ?? { seq: 0, hash: GENESIS_HASH };
  if (entries !== undefined) {
    parts.push(encoder.beginAudit(head));
    for (const one of entries) {
      const text = Buffer.from(canonicalize(one));
      head = { seq: head.seq + 1, hash: chainHash(head.hash, text) };
      parts.push(encoder.entry(head.seq, head.hash, text));
    }
  }
  parts.push(encoder.end(head));
  return Buffer.concat(parts.map((part) => Buffer.from(part))).toString('utf8');
}

const plainHeader: BackupHeader = {
  loom_backup_version: 1,
  backend: 'postgres',
  instance_id: '5b0c6f1e-7f0a-4b0e-9a55-3d1c2b4a6f70',
  state_key: 'default',
  schema_version: 1,
  epoch: 'F95jjP9wui',
  revision: 7,
  exported_at: '2026-01-31T12:00:00.000001Z',
  state_updated_at: '2026-01-31T11:59:59.999999Z',
};

/** Returns the JSON text of an audit entry. `changes` is JSON text; `more` adds or replaces members. */
export function entryText(
  seq: number,
  { action, changes, more = {} }: { action: string; changes: string; more?: Record<string, unknown> },
): string {
  const members = {
    seq,
    event_id: `019c1a00-0000-7000-8000-${String(seq).padStart(12, '0')}`,
    recorded_at: `2026-01-31T11:${String(seq % 60).padStart(2, '0')}:00.000000Z`,
    action,
    actor: 'client',
    request_id: 'test',
    revision: seq,
    epoch: plainHeader.epoch,
    ...more,
  };
  return `${JSON.stringify(members).slice(0, -1)},"changes":${changes}}`;
}

export function putText(seq: number, name: string, value: string, more?: Record<string, unknown>): string {
  const changes = `[{"op":"put","name":${JSON.stringify(name)},"value":${value},"created":true}]`;
  return entryText(seq, { action: 'document.put', changes, ...(more === undefined ? {} : { more }) });
}
