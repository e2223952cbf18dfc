import type { Readable } from 'node:stream';
import type { CatalogueEntry, StoredBackups } from '../domain/backup-run.ts';
import { isLoomError, LoomError } from '../errors.ts';
import { limits } from '../limits.ts';
import { findBackup, toStoredBackup, writtenOf } from './catalogue.ts';
import { withinDeadline } from './deadline.ts';
import { noteDifference } from './deletion.ts';
import type { RunParts } from './parts.ts';
import { openPlain, openStored, withFault } from './proof/open.ts';
import { disproves } from './proof/proof.ts';
import { assertSameStore } from './store/store-identity.ts';

/**
 * Creates the verbs that open stored backups for requests. If a request finds a backup damaged or missing, the
 * catalogue notes that at once, as after a drill: it must not call a backup proven that was just refused.
 */
export function createReader(parts: RunParts): Pick<StoredBackups, 'open' | 'openPlain'> {
  return {
    open: async (name, signal) => {
      const entry = await findBackup(parts.ledger, name);
      const written = writtenOf(entry);
      return {
        backup: toStoredBackup(entry),
        body: await openNoting(parts, entry, () => openStored(parts, name, written, signal)),
      };
    },
    openPlain: async (name, signal) => {
      const entry = await findBackup(parts.ledger, name);
      const { identities } = parts.keys;
      if (entry.encrypted && identities.length === 0) throw noIdentity(name);
      const backup = { name, written: writtenOf(entry), isEncrypted: entry.encrypted, identities };
      return await openNoting(parts, entry, () => openPlain(parts, backup, signal));
    },
  };
}

async function openNoting(parts: RunParts, entry: CatalogueEntry, open: () => Promise<Readable>): Promise<Readable> {
  const note = async (error: Error): Promise<Error> => (disproves(error) ? noteFound(parts, entry, error) : error);
  try {
    return withFault(await open(), note);
  } catch (error) {
    throw error instanceof Error ? await note(error) : error;
  }
}

/**
 * Notes a fault that a reader has found, and returns the error for the reader. If this is not the store of the
 * catalogue, for example because a volume is not mounted, the error says that, and nothing is noted.
 */
async function noteFound(parts: RunParts, entry: CatalogueEntry, fault: LoomError): Promise<LoomError> {
  try {
    const { signal } = new AbortController();
    const looks = (bounded: AbortSignal) => assertSameStore(parts, bounded);
    await withinDeadline(parts.store, limits.noteFaultTimeoutMs, signal, looks);
    await noteDifference(parts, entry, fault);
  } catch (error) {
    if (isLoomError(error) && error.code === 'store_failed') return error;
    parts.log.warn({ err: error, backup: entry.name, code: fault.code }, 'the fault of a stored backup was not noted');
  }
  return fault;
}

function noIdentity(name: string): LoomError {
  return new LoomError(
    'identity_missing',
    `The stored backup ${JSON.stringify(name)} is encrypted, and this node has no key. Set LOOM_BACKUP_IDENTITY_FILE to ` +
      'the file with its secret key.',
  );
}
