import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { createEntryCheck } from '../check/entry.ts';
import { documentCountMismatch, stateDigestMismatch } from '../check/faults.ts';
import { checkFrame, type VerifiableBackup } from '../check/frame.ts';
import { createStateDigest } from '../format/digests.ts';
import { decodeAll, documentSha256, type OpenBackup } from './read.ts';
import { createRepeatCheck } from './repeats.ts';
import { checkByWindows } from './windows.ts';

/** What was checked, of a backup that holds. */
export interface VerifiedBackup extends VerifiableBackup {
  bytes: number;
  documents: number;
  auditEntries: number;
}

export interface VerifyOptions {
  /** Newest schema version that counts as known. */
  schemaVersion: number;
  /** Names, or ids, held at once; `limits.verifyWindow` when left out. */
  window?: number;
}

/**
 * Checks a backup as a restore would, with the same codes in the same order, but without a database and in constant memory:
 * a file of any size and any order of members. Reads it once, and once more for every `limits.verifyWindow` of its entries when there
 * are more than that, or of its documents when they do not stand in the order in which LOOM writes them. Throws the first fault as a LoomError.
 */
export async function verifyBackup(
  open: OpenBackup,
  { schemaVersion, window = limits.verifyWindow }: VerifyOptions,
): Promise<VerifiedBackup> {
  const documents = createOrderedDigest();
  const digests = createOrderedDigest();
  const entries = createEntryCheck();
  const repeats = createRepeatCheck(window);
  const addEntry = (text: Buffer): void => {
    const members = entries.add(text);
    if (members !== undefined) repeats.add(members);
  };
  const { frame, bytes } = await decodeAll(open, (item) => {
    if (item.kind === 'document') documents.add(item.name, documentSha256(item.text));
    else if (item.kind === 'digest') digests.add(item.name, Buffer.from(item.sha256, 'hex'));
    else addEntry(item.text);
  });
  const backup = checkFrame(frame, '', { schemaVersion, acceptUnverified: false });
  if (!backup.verified) throw nothingToVerifyBy();
  const { manifest } = backup;
  const fits = documents.isOrdered() && digests.isOrdered() && documents.sha256() === digests.sha256();
  const stateSha256 = fits ? documents.sha256() : await checkByWindows(open, window);
  if (documents.count() !== manifest.documents) throw documentCountMismatch('', manifest.documents, documents.count());
  if (stateSha256 !== manifest.state_sha256) throw stateDigestMismatch('');
  if (backup.hasAudit) {
    entries.assertHolds(manifest);
    await repeats.assertNone(open);
    entries.assertHead(manifest);
  }
  return { ...backup, bytes, documents: documents.count(), auditEntries: entries.count() };
}

function nothingToVerifyBy(): LoomError {
  return new LoomError(
    'backup_unverified',
    'This is the backup of a public LOOM node, which has nothing to verify it by. A restore takes it, as unverified.',
    { pointer: '/manifest' },
  );
}

/** A state digest made on the way, good as long as the names come in the order of their bytes, each once. */
function createOrderedDigest() {
  const digest = createStateDigest();
  let last: Buffer | undefined;
  let ordered = true;
  let count = 0;
  let hex: string | undefined;
  return {
    add: (name: string, valueSha256: Buffer): void => {
      const bytes = Buffer.from(name);
      if (last !== undefined && Buffer.compare(last, bytes) >= 0) ordered = false;
      last = bytes;
      count += 1;
      digest.add(bytes, valueSha256);
    },
    isOrdered: () => ordered,
    count: () => count,
    sha256: (): string => {
      hex ??= digest.end();
      return hex;
    },
  };
}
