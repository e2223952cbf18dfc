import { canonicalOfCaptured } from '../../json/canonical.ts';
import { type BackupFrame, type BackupItem, createBackupDecoder } from '../format/decoder.ts';
import { sha256 } from '../format/digests.ts';

// src/backup/offline/ reads a backup in a file without a database: it verifies it, summarizes it, and compares it with
// an earlier one. It may import ../format/, ../check/, domain, errors, json, limits and node's file and zlib modules.
// It knows nothing of nodes, HTTP or the command line. Its memory does not grow with the file: what needs more reads
// the file again.

/** Opens the backup at its beginning; it may be read more than once. The bytes are JSON, already decompressed. */
export type OpenBackup = () => AsyncIterable<Uint8Array>;

/** Reads the whole backup and passes each of its items to `onItem`. */
export async function decodeAll(
  open: OpenBackup,
  onItem: (item: BackupItem) => void,
): Promise<{ frame: BackupFrame; bytes: number }> {
  const decoder = createBackupDecoder();
  let bytes = 0;
  for await (const chunk of open()) {
    bytes += chunk.length;
    for (const item of decoder.write(chunk)) onItem(item);
  }
  return { frame: decoder.end(), bytes };
}

/** Yields the texts of the audit entries in their order. Reads no further than the caller asks. */
export async function* readEntries(open: OpenBackup): AsyncGenerator<Buffer> {
  const decoder = createBackupDecoder();
  for await (const chunk of open()) {
    for (const item of decoder.write(chunk)) if (item.kind === 'entry') yield item.text;
  }
  decoder.end();
}

/** Returns the digest of a captured value: sha256 over its canonical text. */
export function documentSha256(captured: Buffer): Buffer {
  return sha256(Buffer.from(canonicalOfCaptured(captured)));
}
