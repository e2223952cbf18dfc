import {
  type CatalogueEntry,
  type RunLedger,
  type StoredBackup,
  storedBackupNotFound,
  type WrittenBackup,
} from '../domain/backup-run.ts';
import { LoomError } from '../errors.ts';
import { limits } from '../limits.ts';

/** Reads the whole catalogue, newest first, page by page. Each entry has less than 1 KiB. */
export async function readCatalogue(ledger: Pick<RunLedger, 'listBackups'>): Promise<CatalogueEntry[]> {
  const limit = limits.cataloguePageEntries;
  const all: CatalogueEntry[] = [];
  for (let before: string | undefined; ; ) {
    const page = await ledger.listBackups({ limit, before });
    all.push(...page);
    before = page.at(-1)?.name;
    if (page.length < limit || before === undefined) return all;
  }
}

/** Reads one backup. Throws `stored_backup_not_found`. */
export async function findBackup(ledger: Pick<RunLedger, 'readBackup'>, name: string): Promise<CatalogueEntry> {
  const entry = await ledger.readBackup(name);
  if (entry !== undefined) return entry;
  throw storedBackupNotFound(name);
}

/** Returns what was written. Throws `stored_backup_missing` if the run has not, or not yet, written all of it. */
export function writtenOf({ name, bytes, sha256, manifestSha256, isBeingWritten }: CatalogueEntry): WrittenBackup {
  if (bytes !== null && sha256 !== null && manifestSha256 !== null) return { bytes, sha256, manifestSha256 };
  throw new LoomError(
    'stored_backup_missing',
    isBeingWritten
      ? `The stored backup ${JSON.stringify(name)} is still being written. Try again when its run has ended.`
      : `The stored backup ${JSON.stringify(name)} is incomplete: its run ended before it was written. Use another one.`,
  );
}

/** Returns an entry as routes show it, without what only proofs and deletions compare. */
export function toStoredBackup(entry: CatalogueEntry): StoredBackup {
  const { runId: _, manifestSha256: __, isBeingWritten: ___, deletionBegunAt: ____, storeId: _____, ...rest } = entry;
  const { isOwn: ______, ...backup } = rest;
  return backup;
}
