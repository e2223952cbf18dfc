import { canonicalOfCaptured } from '../../json/canonical.ts';
import { type BackupFrame, type BackupItem, createBackupDecoder } from '../format/decoder.ts';
import { sha256 } from '../format/digests.ts';

/** Opens the backup from its beginning: it may be read more than once. Bytes are those of the JSON, already unpacked. */
export type OpenBackup = () => AsyncIterable<Uint8Array>;

/** Reads the whole backup and hands over each of its items. */
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

/** The texts of the audit entries alone, in their order, as they are asked for: for two trails side by side, or a part of one. */
export async function* readEntries(open: OpenBackup): AsyncGenerator<Buffer> {
  const decoder = createBackupDecoder();
  for await (const chunk of open()) {
    for (const item of decoder.write(chunk)) if (item.kind === 'entry') yield item.text;
  }
  decoder.end();
}

export function documentSha256(captured: Buffer): Buffer {
  return sha256(Buffer.from(canonicalOfCaptured(captured)));
}
