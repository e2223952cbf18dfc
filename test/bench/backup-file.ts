import { writeFile } from 'node:fs/promises';
import { entryText, writeBackup } from '../setup/backup/written-backup.ts';
import { createRandom, type Random } from '../setup/values/random.ts';

export const DOCUMENTS = 20_000;
export const ENTRIES = 50_000;

const words = 'amber basin cedar delta ember fjord grove haven inlet jetty knoll larch meadow north orchard'.split(' ');

/**
 * Writes two backups of one state with the same trail. Every document differs between them. Documents have about 2 KB
 * and look like an application's records; entries look like patches of them. Returns the size of each file.
 */
export async function writeBackupFiles(path: string, changedPath: string): Promise<{ bytes: number }> {
  const random = createRandom(1);
  const documents = Array.from({ length: DOCUMENTS }, (_, index) => ({
    name: nameOf(index),
    ...recordOf(random, index),
  }));
  const entries = Array.from({ length: ENTRIES }, (_, index) => patchText(random, index + 1));
  const write = (version: number): string =>
    writeBackup({
      header: { revision: ENTRIES },
      documents: documents.map(({ name, ...record }) => [name, JSON.stringify({ ...record, version })]),
      entries,
    });
  const text = write(1);
  await writeFile(path, text);
  await writeFile(changedPath, write(2));
  return { bytes: Buffer.byteLength(text) };
}

export function nameOf(index: number): string {
  return `customer/${String(index).padStart(6, '0')}`;
}

function recordOf(random: Random, index: number): Record<string, unknown> {
  return {
    id: index,
    title: phrase(random, 4),
    active: random.fraction() < 0.8,
    balance: random.integer(0, 1_000_000) / 100,
    address: { street: phrase(random, 3), city: 'Königsberg "am See"', zip: null },
    tags: Array.from({ length: 6 }, () => random.pick(words)),
    orders: Array.from({ length: 13 }, (_, order) => ({
      order,
      sku: `${random.pick(words)}-${random.integer(1, 99_999)}`,
      quantity: random.integer(1, 40),
      price: random.integer(100, 90_000) / 100,
      note: phrase(random, random.integer(4, 12)),
    })),
  };
}

function patchText(random: Random, seq: number): string {
  const value = { balance: random.integer(0, 1_000_000) / 100, note: phrase(random, 20), seen: random.integer(0, 1e9) };
  const change = { op: 'merge', name: nameOf(random.integer(0, DOCUMENTS - 1)), value };
  return entryText(seq, { action: 'document.patch', changes: JSON.stringify([change]) });
}

function phrase(random: Random, length: number): string {
  return Array.from({ length }, () => random.pick(words)).join(' ');
}
