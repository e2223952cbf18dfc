import { LoomError } from '../../errors.ts';
import { pointerToken, shortPointer } from '../../json/pointer.ts';

/**
 * What can be wrong with a backup as a whole: restore finds it in PostgreSQL, the verifier offline, and both say it in the
 * same words. `pointer` is where the backup stands: `/backup` in a restore, empty in a file.
 */
export function duplicateDocument(pointer: string, name: string): LoomError {
  return new LoomError('backup_duplicate_document', `Document ${quote(name)} stands in the backup twice.`, {
    document: name,
    pointer: memberOf(`${pointer}/state`, name),
  });
}

export function duplicateDigest(pointer: string, name: string): LoomError {
  return new LoomError('duplicate_member', `document_sha256 has ${quote(name)} twice.`, {
    document: name,
    pointer: memberOf(`${pointer}/document_sha256`, name),
  });
}

/** `lost`: a digest without a document. `added`: a document without a digest. `changed`: the two do not fit. */
export function digestMismatch(pointer: string, name: string, fault: 'lost' | 'added' | 'changed'): LoomError {
  const details = {
    lost: `Document ${quote(name)} is missing: the backup has its digest, but not the document.`,
    added: `Document ${quote(name)} was added: the backup has no digest of it.`,
    changed: `Document ${quote(name)} is not as it was exported: its digest does not hold.`,
  };
  return new LoomError('backup_digest_mismatch', details[fault], {
    document: name,
    pointer: memberOf(`${pointer}/${fault === 'lost' ? 'document_sha256' : 'state'}`, name),
  });
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

/** Another entry than `expectedSeq`, or the right one with a hash that does not follow. `position` counts from 1. */
export function brokenLink(pointer: string, position: number, seq: number, expectedSeq: number): LoomError {
  const at = `${pointer}/audit_entries/${position - 1}`;
  if (seq !== expectedSeq) {
    return new LoomError('backup_chain_broken', `Audit entry ${seq} stands where entry ${expectedSeq} must.`, {
      seq: expectedSeq,
      pointer: at,
    });
  }
  return new LoomError(
    'backup_chain_broken',
    `The hash of audit entry ${seq} is not that of its content after the hash of the entry before it.`,
    { seq, pointer: at },
  );
}

/** `position` counts the entries of the backup from 1. */
export function repeatedMember(pointer: string, position: number, seq: number, member: string): LoomError {
  return new LoomError('backup_malformed', `Audit entry ${seq} repeats the ${member} of an earlier one.`, {
    seq,
    pointer: `${pointer}/audit_entries/${position - 1}/${member}`,
  });
}

export function headMismatch(pointer: string, lastSeq: number, headSeq: number): LoomError {
  return new LoomError(
    'backup_chain_broken',
    `The chain ends at seq ${lastSeq}, and the manifest names entry ${headSeq} as its head.`,
    { seq: headSeq, pointer: `${pointer}/manifest/audit_head` },
  );
}

function memberOf(pointer: string, name: string): string {
  return shortPointer(pointer + pointerToken(name));
}

function quote(name: string): string {
  return JSON.stringify(name);
}
