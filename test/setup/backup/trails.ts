import { chainHash, createStateDigest, sha256 } from '../../../src/backup/format/digests.ts';
import { GENESIS_HASH } from '../../../src/domain/audit.ts';
import { canonicalText } from '../../../src/json/canonical.ts';
import { seal } from './chain.ts';

/** An audit entry in a backup. */
export type Entry = Record<string, unknown> & { seq: number; hash: string };

/** Appends an entry. Every function of this file returns a new trail with valid hashes, without a database. */
export function append(trail: Entry[], members: Record<string, unknown>): Entry[] {
  const last = trail.at(-1) ?? { seq: 0, hash: GENESIS_HASH };
  const id = sha256(Buffer.from(canonicalText([last.hash, members]))).toString('hex');
  const content = {
    seq: last.seq + 1,
    event_id: `${id.slice(0, 8)}-${id.slice(8, 12)}-${id.slice(12, 16)}-${id.slice(16, 20)}-${id.slice(20, 32)}`,
    recorded_at: '2026-01-01T00:00:00.000000Z',
    actor: 'admin',
    request_id: 'test',
    ...members,
  };
  return [...trail, { ...content, hash: chainHash(last.hash, Buffer.from(canonicalText(content))) }];
}

export function put(trail: Entry[], ...values: unknown[]): Entry[] {
  return values.reduce<Entry[]>(
    (grown, value) => append(grown, { action: 'document.put', changes: [{ value }] }),
    trail,
  );
}

/** Appends a restore of a backup that ends with entry `to`, and removes the entries after it. */
export function truncate(trail: Entry[], to: number, requestId = 'test'): Entry[] {
  const { seq, hash } = trail.at(-1) ?? { seq: 0, hash: GENESIS_HASH };
  const restore = { replaced_entries: seq - to, previous_head: { seq, hash }, truncated_audit: true };
  return append(trail.slice(0, to), { action: 'restore', request_id: requestId, restore });
}

/** Appends `originals` as imports, as the restore of a diverged trail does. */
export function importAll(trail: Entry[], originals: Entry[]): Entry[] {
  return originals.reduce((grown, original, index) => {
    const about = { sha256: sha256(Buffer.from(canonicalText(original))).toString('hex'), verified: true };
    return append(grown, { action: 'audit.import', import: { ...about, position: index + 1, original } });
  }, trail);
}

export interface TrailBackupOptions {
  /** Includes this many of the last entries; `null` includes none. */
  last?: number | null;
  exportedAt?: string;
  header?: Record<string, unknown>;
}

/** Returns a backup of a trail, without documents. */
export function backupOf(trail: Entry[], { last, exportedAt, header }: TrailBackupOptions = {}): string {
  const included = last === null ? [] : trail.slice(last === undefined ? 0 : Math.max(trail.length - last, 0));
  const before = trail.at(-included.length - 1)?.hash ?? GENESIS_HASH;
  const { seq, hash } = trail.at(-1) ?? { seq: 0, hash: GENESIS_HASH };
  const backup = {
    loom_backup_version: 1,
    backend: 'postgres',
    instance_id: 'instance',
    state_key: 'default',
    schema_version: 1,
    epoch: 'epoch',
    revision: seq,
    exported_at: exportedAt ?? '2026-01-02T00:00:00.000000Z',
    state_updated_at: '2026-01-01T00:00:00.000000Z',
    ...header,
    state: {},
    document_sha256: {},
    audit_entries: included,
    manifest: {
      documents: 0,
      state_sha256: createStateDigest().end(),
      audit_included: last !== null,
      audit_entries: included.length,
      audit_first: included[0] === undefined ? null : { seq: included[0].seq, previous_hash: before },
      audit_head: { seq, hash },
      audit_verified: last !== null,
      sha256: '',
    },
  };
  const text = JSON.stringify(seal(backup));
  return last === null ? text.replace('"audit_entries":[],"manifest"', '"manifest"') : text;
}
