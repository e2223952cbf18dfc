import { LoomError } from '../../errors.ts';
import { pointerToken, shortPointer } from '../../json/pointer.ts';

/**
 * Creates the error for a document that the backup has twice. A restore finds this and the following faults in
 * PostgreSQL, the offline verifier finds them in the file, and both report them in these words. `pointer` leads to the
 * backup: `/backup` in a restore, empty in a file.
 */
export function duplicateDocument(pointer: string, name: string): LoomError {
  return new LoomError('backup_duplicate_document', `The backup has document ${quote(name)} twice.`, {
    document: name,
    pointer: memberOf(`${pointer}/state`, name),
  });
}

export function duplicateDigest(pointer: string, name: string): LoomError {
  return new LoomError('duplicate_member', `"document_sha256" has ${quote(name)} twice.`, {
    document: name,
    pointer: memberOf(`${pointer}/document_sha256`, name),
  });
}

/** `lost`: a digest without a document. `added`: a document without a digest. `changed`: the two do not match. */
export function digestMismatch(pointer: string, name: string, fault: 'lost' | 'added' | 'changed'): LoomError {
  const details = {
    lost: `Document ${quote(name)} is missing: the backup has only its digest.`,
    added: `Document ${quote(name)} was added: the backup has no digest for it.`,
    changed: `Document ${quote(name)} was changed after the export: its digest does not match.`,
  };
  return new LoomError('backup_digest_mismatch', details[fault], {
    document: name,
    pointer: memberOf(`${pointer}/${fault === 'lost' ? 'document_sha256' : 'state'}`, name),
  });
}

export function documentCountMismatch(pointer: string, counted: number, held: number): LoomError {
  return new LoomError('backup_count_mismatch', `The manifest counts ${counted} documents; the backup has ${held}.`, {
    pointer: `${pointer}/manifest/documents`,
  });
}

export function stateDigestMismatch(pointer: string): LoomError {
  return new LoomError(
    'backup_digest_mismatch',
    'The digest of the state does not match the documents in the backup.',
    {
      pointer: `${pointer}/manifest/state_sha256`,
    },
  );
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
    `The manifest counts ${counted} audit entries; the backup has ${held}.`,
    { pointer: `${pointer}/manifest/audit_entries` },
  );
}

/** For an entry other than `expectedSeq`, or the expected one with the wrong hash. `position` counts from 1. */
export function brokenLink(pointer: string, position: number, seq: number, expectedSeq: number): LoomError {
  const at = `${pointer}/audit_entries/${position - 1}`;
  if (seq !== expectedSeq) {
    return new LoomError(
      'backup_chain_broken',
      `Found audit entry ${seq}; expected entry ${expectedSeq} at this place.`,
      {
        seq: expectedSeq,
        pointer: at,
      },
    );
  }
  return new LoomError(
    'backup_chain_broken',
    `The hash of audit entry ${seq} does not match its content and the hash of the entry before it.`,
    { seq, pointer: at },
  );
}

/** For an `event_id` or `idempotency_key` of an earlier entry. `position` counts the entries from 1. */
export function repeatedMember(pointer: string, position: number, seq: number, member: string): LoomError {
  return new LoomError('backup_malformed', `Audit entry ${seq} repeats the ${member} of an earlier entry.`, {
    seq,
    pointer: `${pointer}/audit_entries/${position - 1}/${member}`,
  });
}

export function headMismatch(pointer: string, lastSeq: number, headSeq: number): LoomError {
  return new LoomError(
    'backup_chain_broken',
    lastSeq === headSeq
      ? `The hash of the last audit entry, ${lastSeq}, is not the one of the head in the manifest.`
      : `The chain ends at entry ${lastSeq}; the manifest names entry ${headSeq} as its head.`,
    { seq: headSeq, pointer: `${pointer}/manifest/audit_head` },
  );
}

function memberOf(pointer: string, name: string): string {
  return shortPointer(pointer + pointerToken(name));
}

function quote(name: string): string {
  return JSON.stringify(name);
}
