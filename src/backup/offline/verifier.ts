import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { createEntryCheck, createEntryReader } from '../check/entry.ts';
import { documentCountMismatch, stateDigestMismatch } from '../check/faults.ts';
import { checkFrame, type VerifiableBackup } from '../check/frame.ts';
import { createStateDigest } from '../format/digests.ts';
import { createTrailFold, type FoldReport } from './fold/fold.ts';
import { canonicalSha256, decodeAll, type OpenBackup } from './read.ts';
import { createRepeatCheck } from './repeats.ts';
import { checkByWindows } from './windows.ts';

/** Describes a verified backup and the amount of data that was checked. */
export interface VerifiedBackup extends VerifiableBackup {
  bytes: number;
  documents: number;
  auditEntries: number;
  /** How the documents compare with the trail. Undefined if the backup lacks the beginning of its trail. */
  fold: FoldReport | undefined;
}

export interface VerifyOptions {
  /** The newest known schema version. */
  schemaVersion: number;
  /** Number of names or ids in memory at once. Default: `limits.verifyWindow`. */
  window?: number;
}

/**
 * Verifies a backup of any size without a database, in constant memory. Members may have any order. Throws the first
 * fault as a LoomError, with the same codes in the same order as a restore.
 *
 * Reads the file once. Reads it again for each further window of entries, and for each window of documents that are not
 * in byte order of their names.
 */
export async function verifyBackup(
  open: OpenBackup,
  { schemaVersion, window = limits.verifyWindow }: VerifyOptions,
): Promise<VerifiedBackup> {
  const documents = createOrderedDigest();
  const digests = createOrderedDigest();
  const entries = createEntryCheck();
  const repeats = createRepeatCheck(window);
  const fold = createTrailFold();
  const { frame, bytes } = await decodeAll(open, (item) => {
    if (item.kind === 'document') {
      const digest = canonicalSha256(item);
      documents.add(item.name, digest);
      fold.addDocument(item.name, digest);
    } else if (item.kind === 'digest') {
      digests.add(item.name, Buffer.from(item.sha256, 'hex'));
    } else {
      const entry = entries.add(item);
      if (entry === undefined) return;
      repeats.add(entry);
      fold.addEntry(entry);
    }
  });
  const backup = checkFrame(frame, '', { schemaVersion, acceptUnverified: false });
  if (!backup.verified) throw manifestMissing();
  const { manifest } = backup;
  const isSame = documents.isOrdered() && digests.isOrdered() && documents.sha256() === digests.sha256();
  const stateSha256 = isSame ? documents.sha256() : await checkByWindows(open, window);
  if (documents.count() !== manifest.documents) throw documentCountMismatch('', manifest.documents, documents.count());
  if (stateSha256 !== manifest.state_sha256) throw stateDigestMismatch('');
  if (backup.hasAudit) {
    entries.assertValid(manifest);
    await repeats.assertNone(open);
    entries.assertHead(manifest);
  }
  const readEntry = createEntryReader();
  return {
    ...backup,
    bytes,
    documents: documents.count(),
    auditEntries: entries.count(),
    fold: await fold.compare((onDocument, onEntry) =>
      decodeAll(open, (item) => {
        if (item.kind === 'document') onDocument(item.name, canonicalSha256(item));
        else if (item.kind === 'entry') onEntry(readEntry(item).entry);
      }),
    ),
  };
}

function manifestMissing(): LoomError {
  return new LoomError(
    'backup_unverified',
    'A public LOOM node made this backup without a manifest, so it cannot be verified. A restore accepts it ' +
      'unverified.',
    { pointer: '/manifest' },
  );
}

/** Creates a state digest that is valid only while `isOrdered`: each name once, in byte order. */
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
