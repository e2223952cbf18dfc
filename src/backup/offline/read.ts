import { canonicalOfCaptured } from '../../json/canonical.ts';
import { type BackupFrame, type BackupItem, createBackupDecoder, createBackupReader } from '../format/decoder.ts';
import { sha256 } from '../format/digests.ts';

// src/backup/offline/ verifies and summarizes a backup file without a database, and compares it with an earlier backup.
// It may import ../format/, ../check/, ../stored/, domain, errors, json, limits, zod and Node's file and zlib modules.
// It must not know nodes, HTTP or the command line. Its memory grows only by fingerprints of names and ids: larger
// checks read the file repeatedly.

/**
 * Opens the backup at its start; may be called repeatedly. The bytes are decompressed JSON. A chunk may be overwritten
 * when the next one is requested.
 */
export type OpenBackup = () => AsyncIterable<Uint8Array>;

/** Reads the whole backup and passes each item to `onItem`, which must not keep its text. */
export async function decodeAll(
  open: OpenBackup,
  onItem: (item: BackupItem) => void,
): Promise<{ frame: BackupFrame; bytes: number }> {
  const reader = createBackupReader(onItem);
  let bytes = 0;
  for await (const chunk of open()) {
    bytes += chunk.length;
    reader.write(chunk);
  }
  return { frame: reader.end(), bytes };
}

/**
 * Yields the captured texts of the audit entries in order. Each is valid until the next one is requested. Stops reading
 * when the caller stops.
 */
export async function* readEntries(open: OpenBackup): AsyncGenerator<Buffer> {
  const decoder = createBackupDecoder();
  for await (const chunk of open()) {
    for (const item of decoder.write(chunk)) if (item.kind === 'entry') yield item.text;
  }
  decoder.end();
}

/** Returns the sha256 of a captured value's canonical text. `canonicalFrom` is that of `CapturedValue`. */
export function canonicalSha256({ text, canonicalFrom }: { text: Buffer; canonicalFrom?: number | undefined }): Buffer {
  return sha256(canonicalFrom === 0 ? text : Buffer.from(canonicalOfCaptured(text)));
}
