import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  parseStoredManifest,
  readStoredManifest,
  writeStoredManifest,
} from '../../../src/backup/stored/stored-manifest.ts';
import type { StoredManifest } from '../../../src/domain/backup-run.ts';
import { limits } from '../../../src/limits.ts';

const name = 'loom-default-20260131T235959.012Z-r42.json.gz';
const manifest: StoredManifest = {
  loom_stored_backup: 1,
  name,
  bytes: 12_345,
  sha256: 'a'.repeat(64),
  backend: 'postgres',
  instance_id: 'inst',
  state_key: 'default',
  schema_version: 5,
  epoch: 'epoch',
  revision: 42,
  taken_at: '2026-01-31T23:59:59.012345Z',
  documents: 3,
  audit_entries: 42,
  audit_head: { seq: 42, hash: 'b'.repeat(64) },
  state_sha256: 'c'.repeat(64),
  compression: 'gzip',
  encryption: null,
};

async function* pieces(text: string): AsyncGenerator<Uint8Array> {
  for (let from = 0; from < text.length; from += 100) yield Buffer.from(text.slice(from, from + 100));
}

test('reads what it writes, and the digest of its bytes', async () => {
  const text = writeStoredManifest(manifest);
  expect(text.endsWith('}\n')).toBe(true);
  expect(await readStoredManifest(pieces(text), name)).toEqual({
    manifest,
    sha256: createHash('sha256').update(text).digest('hex'),
  });
});

test('reads a manifest of a later version with more members', () => {
  expect(parseStoredManifest(JSON.stringify({ ...manifest, more: 1 }), name)).toEqual(manifest);
});

describe('refuses', () => {
  test.each([
    ['a cut text', writeStoredManifest(manifest).slice(0, -9), 'cut off'],
    ['a missing member', JSON.stringify({ ...manifest, bytes: undefined }), '"bytes"'],
    ['an unknown version', JSON.stringify({ ...manifest, loom_stored_backup: 2 }), '"loom_stored_backup"'],
    ['a wrong digest', JSON.stringify({ ...manifest, sha256: 'A'.repeat(64) }), '"sha256"'],
    ['another name', JSON.stringify({ ...manifest, name: 'other' }), '"other"'],
    [
      'a backup that is not encrypted',
      JSON.stringify({ ...manifest, encryption: { format: 'age', recipients: [] } }),
      'encryption',
    ],
    ['an empty text', '', 'not valid JSON'],
  ])('%s', (_what, text, found) => {
    expect(() => parseStoredManifest(text, name)).toThrow(
      expect.objectContaining({ code: 'stored_manifest_invalid', message: expect.stringContaining(found) }),
    );
  });

  test('a manifest that is too long', async () => {
    const text = ' '.repeat(limits.maxStoredManifestBytes + 1);
    await expect(readStoredManifest(pieces(text), name)).rejects.toMatchObject({ code: 'stored_manifest_invalid' });
  });

  test('to write a manifest that it would not read', () => {
    expect(() => writeStoredManifest({ ...manifest, bytes: -1 })).toThrow();
  });
});
