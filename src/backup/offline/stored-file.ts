import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import type { StoredManifest } from '../../domain/backup-run.ts';
import { codeOf, LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { parseStoredManifest } from '../stored/stored-manifest.ts';
import { manifestNameOf } from '../stored/stored-name.ts';

/** Compares a file with the manifest that lies beside it, as in a store. */
export interface StoredFile {
  manifest: StoredManifest;
  /** Takes the bytes of the file while it is read. */
  onChunk(chunk: Uint8Array, at: number): void;
  /** Throws `stored_backup_damaged` unless the file has the size and the digest of the manifest. */
  assertBytes(): Promise<void>;
}

/** Reads the manifest beside a file; undefined if there is none. Throws `stored_manifest_invalid`. */
export async function openStoredFile(path: string): Promise<StoredFile | undefined> {
  const manifest = await readManifestBeside(path);
  if (manifest === undefined) return undefined;
  const hash = createHash('sha256');
  /** Number of bytes hashed. The file may be read several times: only the first reading counts. */
  let hashed = 0;
  return {
    manifest,
    onChunk: (chunk, at) => {
      if (at !== hashed) return;
      hash.update(chunk);
      hashed += chunk.length;
    },
    assertBytes: async () => {
      const { size } = await stat(path);
      if (size !== manifest.bytes) throw differs(path, `${size} bytes`, `${manifest.bytes}`);
      // A fault of the backup ends its reading early.
      for await (const chunk of hashed === size ? [] : createReadStream(path, { start: hashed })) {
        hash.update(chunk);
        hashed += chunk.length;
      }
      const sha256 = hash.copy().digest('hex');
      if (sha256 !== manifest.sha256) throw differs(path, `the sha256 ${sha256}`, manifest.sha256);
    },
  };
}

function differs(path: string, found: string, expected: string): LoomError {
  return new LoomError(
    'stored_backup_damaged',
    `The file ${JSON.stringify(basename(path))} has ${found}, and its manifest says ${expected}. The file is damaged or ` +
      'another one. Use another copy.',
  );
}

async function readManifestBeside(path: string): Promise<StoredManifest | undefined> {
  const beside = manifestNameOf(path);
  try {
    const { size } = await stat(beside);
    const text = size > limits.maxStoredManifestBytes ? '' : await readFile(beside, 'utf8');
    return parseStoredManifest(text, basename(path), { mayBeRenamed: true });
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
