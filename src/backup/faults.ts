import { LoomError } from '../errors.ts';

/**
 * What can be wrong with a backup as a whole: restore finds it in PostgreSQL, the verifier offline, and both say it in the
 * same words. `pointer` is where the backup stands: `/backup` in a restore, empty in a file.
 */
export function duplicateDocument(name: string): LoomError {
  return new LoomError('backup_duplicate_document', `Document ${quote(name)} stands in the backup twice.`, {
    document: name,
  });
}

export function duplicateDigest(name: string): LoomError {
  return new LoomError('duplicate_member', `document_sha256 has ${quote(name)} twice.`, { document: name });
}

/** `lost`: a digest without a document. `added`: a document without a digest. `changed`: the two do not fit. */
export function digestMismatch(name: string, fault: 'lost' | 'added' | 'changed'): LoomError {
  const details = {
    lost: `Document ${quote(name)} is missing: the backup has its digest, but not the document.`,
    added: `Document ${quote(name)} was added: the backup has no digest of it.`,
    changed: `Document ${quote(name)} is not as it was exported: its digest does not hold.`,
  };
  return new LoomError('backup_digest_mismatch', details[fault], { document: name });
}

export function documentCountMismatch(pointer: string, counted: number, held: number): LoomError {
  return new LoomError(
    'backup_count_mismatch',
    `The manifest counts ${counted} documents, and the backup holds ${held}.`,
    { pointer: `${pointer}/manifest/documents` },
  );
}

export function stateDigestMismatch(pointer: string): LoomError {
  return new LoomError('backup_digest_mismatch', 'The digest of the state does not hold.', {
    pointer: `${pointer}/manifest/state_sha256`,
  });
}

/** `position` counts the entries of the backup from 1. */
export function malformedEntry(pointer: string, position: number, member: string, seq: number | null): LoomError {
  return new LoomError('backup_malformed', `Audit entry ${position} of the backup has no valid "${member}".`, {
    pointer: `${pointer}/audit_entries/${position - 1}/${member}`,
    ...(seq === null ? {} : { seq }),
  });
}

export function entryCountMismatch(pointer: string, counted: number, held: number): LoomError {
  return new LoomError(
    'backup_count_mismatch',
    `The manifest counts ${counted} audit entries, and the backup holds ${held}.`,
    { pointer: `${pointer}/manifest/audit_entries` },
  );
}

/** Another entry than `expectedSeq`, or the right one with a hash that does not follow. */
export function brokenLink(seq: number, expectedSeq: number): LoomError {
  if (seq !== expectedSeq) {
    return new LoomError('backup_chain_broken', `Audit entry ${seq} stands where entry ${expectedSeq} must.`, {
      seq: expectedSeq,
    });
  }
  return new LoomError(
    'backup_chain_broken',
    `The hash of audit entry ${seq} is not that of its content after the hash of the entry before it.`,
    { seq },
  );
}

export function repeatedMember(seq: number, member: string): LoomError {
  return new LoomError('backup_malformed', `Audit entry ${seq} repeats the ${member} of an earlier one.`, { seq });
}

export function headMismatch(lastSeq: number, headSeq: number): LoomError {
  return new LoomError(
    'backup_chain_broken',
    `The chain ends at seq ${lastSeq}, and the manifest names entry ${headSeq} as its head.`,
    { seq: headSeq },
  );
}

function quote(name: string): string {
  return JSON.stringify(name);
}
