import { LoomError } from '../../errors.ts';
import { pointerToken } from '../../json/pointer.ts';
import { idempotencyKeyBytes } from './entry-forms.ts';

/**
 * Creates the error for a repeated document. A restore and the offline verifier report the same errors, those of this
 * file. `pointer` leads to the backup: `/backup` in the body of a restore, empty in a file.
 */
export function duplicateDocument(pointer: string, name: string): LoomError {
  return new LoomError('backup_duplicate_document', `The backup has two documents named ${quote(name)}.`, {
    document: name,
    pointer: memberOf(`${pointer}/state`, name),
  });
}

export function duplicateDigest(pointer: string, name: string): LoomError {
  return new LoomError('duplicate_member', `"document_sha256" has two digests for document ${quote(name)}.`, {
    document: name,
    pointer: memberOf(`${pointer}/document_sha256`, name),
  });
}

/** Creates the error for a lone digest (`lost`), a lone document (`added`) or a mismatched pair (`changed`). */
export function digestMismatch(pointer: string, name: string, fault: 'lost' | 'added' | 'changed'): LoomError {
  const details = {
    lost: `Document ${quote(name)} is missing: the backup contains only its digest.`,
    added: `Document ${quote(name)} was added: the backup contains no digest for it.`,
    changed: `Document ${quote(name)} was changed after the export: its digest does not match.`,
  };
  return new LoomError('backup_digest_mismatch', details[fault], {
    document: name,
    pointer: memberOf(`${pointer}/${fault === 'lost' ? 'document_sha256' : 'state'}`, name),
  });
}

export function documentCountMismatch(pointer: string, stated: number, found: number): LoomError {
  return new LoomError('backup_count_mismatch', `The backup has ${found} documents; its manifest states ${stated}.`, {
    pointer: `${pointer}/manifest/documents`,
  });
}

export function stateDigestMismatch(pointer: string): LoomError {
  return new LoomError(
    'backup_digest_mismatch',
    'The digest of the state does not match the documents in the backup.',
    { pointer: `${pointer}/manifest/state_sha256` },
  );
}

/** Describes the forms of `entryForms` in words. */
const memberForms: Record<string, string> = {
  seq: 'a whole number from 1',
  hash: '64 lower-case hex digits',
  event_id: 'a UUID in lower case',
  recorded_at: 'a time in UTC such as 2026-01-31T23:59:59.000000Z',
  action: 'a string',
  idempotency_key: `a string of ${idempotencyKeyBytes.min} to ${idempotencyKeyBytes.max} bytes`,
  revision: 'a whole number',
  epoch: 'letters, digits, - and _',
};

/** Creates the error for a malformed member. `position` counts the backup's entries from 1. */
export function malformedEntry(pointer: string, position: number, member: string, seq: number | null): LoomError {
  return new LoomError(
    'backup_malformed',
    `Member "${member}" of audit entry ${position} in the backup is missing or malformed` +
      `${Object.hasOwn(memberForms, member) ? `; expected ${memberForms[member]}` : ''}.`,
    {
      pointer: `${pointer}/audit_entries/${position - 1}/${member}`,
      ...(seq === null ? {} : { seq }),
    },
  );
}

export function entryCountMismatch(pointer: string, stated: number, found: number): LoomError {
  return new LoomError(
    'backup_count_mismatch',
    `The backup has ${found} audit entries; its manifest states ${stated}.`,
    { pointer: `${pointer}/manifest/audit_entries` },
  );
}

/** Creates the error for an entry with the wrong seq or the wrong hash. `position` counts from 1. */
export function brokenLink(pointer: string, position: number, seq: number, expectedSeq: number): LoomError {
  const at = `${pointer}/audit_entries/${position - 1}`;
  if (seq !== expectedSeq) {
    return new LoomError('backup_chain_broken', `Found audit entry ${seq} where entry ${expectedSeq} is expected.`, {
      seq: expectedSeq,
      pointer: at,
    });
  }
  return new LoomError(
    'backup_chain_broken',
    `The hash of audit entry ${seq} does not match its content and the previous hash.`,
    { seq, pointer: at },
  );
}

/** Creates the error for a repeated `event_id` or `idempotency_key`. `position` counts from 1. */
export function repeatedMember(pointer: string, position: number, seq: number, member: string): LoomError {
  return new LoomError('backup_malformed', `Audit entry ${seq} repeats the "${member}" of an earlier entry.`, {
    seq,
    pointer: `${pointer}/audit_entries/${position - 1}/${member}`,
  });
}

export function headMismatch(pointer: string, lastSeq: number, headSeq: number): LoomError {
  return new LoomError(
    'backup_chain_broken',
    lastSeq === headSeq
      ? `The hash of the last audit entry, ${lastSeq}, does not match the head in the manifest.`
      : `The audit trail ends with entry ${lastSeq}; the manifest names entry ${headSeq} as the head.`,
    { seq: headSeq, pointer: `${pointer}/manifest/audit_head` },
  );
}

function memberOf(pointer: string, name: string): string {
  return pointer + pointerToken(name);
}

function quote(name: string): string {
  return JSON.stringify(name);
}
