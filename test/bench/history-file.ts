import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { canonicalText } from '../../src/json/canonical.ts';
import { entryText, writeBackup } from '../setup/backup/written-backup.ts';
import { createRandom, type Random } from '../setup/values/random.ts';
import { nameOf, phrase, recordOf } from './backup-file.ts';

/**
 * Writes a backup of `documents` documents of about 2 KB, made by `entries` merge patches of about 400 bytes. Its trail
 * gives its documents, as that of a node does. Returns the size of the file.
 */
export async function writeHistoryFile(path: string, documents: number, entries: number): Promise<number> {
  const random = createRandom(1);
  const fixed = Array.from({ length: documents }, (_, index) => {
    const { id: _id, tags: _tags, ...record } = recordOf(random, index);
    return canonicalText(record).slice(1);
  });
  const texts = new Map<number, string>();
  const changes = Array.from({ length: entries }, (_, index) => {
    const document = index < documents ? index : random.integer(0, documents - 1);
    const value = { note: phrase(random, 20), seen: random.integer(0, 1e9) };
    // The order of a canonical text is that of the names' lengths.
    const text = `${canonicalText(value).slice(0, -1)}, ${fixed[document]}`;
    texts.set(document, text);
    return changeText(random, index + 1, nameOf(document), value, text);
  });
  const text = writeBackup({
    header: { revision: entries },
    documents: [...texts].map(([document, value]) => [nameOf(document), value]),
    entries: changes,
  });
  await writeFile(path, text);
  return Buffer.byteLength(text);
}

function changeText(random: Random, seq: number, name: string, value: unknown, result: string): string {
  const sha256 = createHash('sha256').update(result).digest('hex');
  const eventId = `019c1a00-${random.integer(0, 65535).toString(16).padStart(4, '0')}-7000-8000-${String(seq).padStart(12, '0')}`;
  const changes = JSON.stringify([{ op: 'merge', name, value, sha256 }]);
  return entryText(seq, { action: 'document.patch', changes, more: { event_id: eventId } });
}
