import type { AuditMismatch } from '../../domain/audit.ts';
import type { StateHead } from '../../domain/state.ts';
import type { Connection } from '../connection/connection.ts';
import { type DocumentTotals, describeTotalsFault } from '../state/consistency.ts';
import {
  type CheckedChanges,
  COUNTED,
  LIST_LIMIT,
  type Mismatches,
  NO_MISMATCHES,
  toMismatches,
} from './verify-changes.ts';

export interface CheckedDocuments {
  mismatches: Mismatches;
  /** What the table has, from the values themselves. */
  totals: DocumentTotals;
  /** Number of documents that the trail does not tell. */
  untold: number;
}

type Difference = keyof typeof differences;

/** Compares every live document with its last change in the trail, and its derived columns with its value. */
export async function checkDocuments(
  connection: Connection,
  stateKey: string,
  { changes, untoldSeqs }: CheckedChanges,
): Promise<CheckedDocuments> {
  const compared = compareDocuments(changes);
  const parameters = [stateKey, untoldSeqs.at(-1) ?? 0];
  const found = await connection.firstRow<DocumentTotals & { mismatches: number; untold: number }>(
    `select count(revision) as documents, coalesce(sum(bytes), 0)::bigint as bytes, count(difference) as mismatches,
            count(*) filter (where is_untold) as untold
       from (${compared}) compared`,
    parameters,
  );
  const { documents = 0, bytes = 0, mismatches = 0, untold = 0 } = found ?? {};
  if (mismatches === 0) return { mismatches: NO_MISMATCHES, totals: { documents, bytes }, untold };
  const rows = await connection.rows<{ count: number; name: string; difference: Difference }>(
    `select name, difference, ${COUNTED} from (${compared}) compared where difference is not null order by name ${LIST_LIMIT}`,
    parameters,
  );
  const listed = toMismatches(rows, ({ name, difference }) => ({
    reason: 'document_mismatch' as const,
    document: name,
    detail: `The document ${JSON.stringify(name)} ${differences[difference]}.`,
  }));
  return { mismatches: listed, totals: { documents, bytes }, untold };
}

const differences = {
  removed: 'is missing: the audit trail has it, and no deletion of it',
  inserted: 'exists, but the audit trail does not have it',
  edited: 'does not have the digest of its last change in the audit trail',
  derived: 'has a digest or size column that does not match its value',
  revision: 'does not have the revision of its last change in the audit trail',
};

/**
 * Returns SQL of all documents and of all names in the trail, each with the difference, if there is one. $2 is the seq
 * of the last untold restore: an earlier change need not be the last one of its document.
 *
 * PostgreSQL reads the documents in parallel, and computes their digests from the values. `offset` makes it print each
 * value only once.
 */
function compareDocuments(changes: string): string {
  return `select name, d.revision, d.bytes,
       case when d.revision is null then case when l.seq > $2 and l.op <> 'delete' then 'removed' end
            when d.stored_sha256 <> d.sha256 or d.stored_bytes <> d.bytes then 'derived'
            when l.seq is null then case when $2 = 0 then 'inserted' end
            when l.seq <= $2 then null
            when l.op = 'delete' then 'inserted'
            when l.sha256 <> d.sha256 then 'edited'
            when l.revision <> d.revision then 'revision' end as difference,
       d.revision is not null and case when l.seq is null then $2 > 0
                                       else l.seq <= $2 or (l.op <> 'delete' and l.sha256 is null) end as is_untold
  from (select name, revision, stored_sha256, stored_bytes, sha256(text) as sha256, octet_length(text) as bytes
          from (select name, revision, sha256 as stored_sha256, bytes as stored_bytes, convert_to(value::text, 'UTF8') as text
                  from loom_document where state_key = $1 offset bigint '0') printed
        offset bigint '0') d
  full join (select distinct on (name) name, seq, revision, op, sha256 from ${changes} c order by name, seq desc) l using (name)`;
}

/** Compares the state row with the documents and with the last entry, which has the state's revision and epoch. */
export async function checkStateRow(
  connection: Connection,
  head: StateHead,
  totals: DocumentTotals,
): Promise<Mismatches> {
  const last = await connection.firstRow<{ revision: string | null; epoch: string | null }>(
    `select entry ->> 'revision' as revision, entry ->> 'epoch' as epoch
       from loom_audit where state_key = $1 order by seq desc limit 1`,
    [head.stateKey],
  );
  const faults = [describeTotalsFault(head, totals)];
  if (last === undefined) {
    if (head.revision !== 0)
      faults.push(`The state row has the revision ${head.revision}, and there is no audit entry.`);
  } else {
    if (last.revision !== String(head.revision)) faults.push(contradicts('revision', head.revision, last.revision));
    if (last.epoch !== head.epoch) faults.push(contradicts('epoch', head.epoch, last.epoch));
  }
  const listed = faults.flatMap((detail): AuditMismatch[] =>
    detail === undefined ? [] : [{ reason: 'state_mismatch', detail }],
  );
  return { count: listed.length, listed };
}

function contradicts(member: string, found: string | number, expected: string | null): string {
  return `The state row has the ${member} ${found}, and the last audit entry has ${expected ?? 'none'}.`;
}
