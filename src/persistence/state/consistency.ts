import type { StateHead } from '../../domain/state.ts';
import { LoomError } from '../../errors.ts';
import type { Queries } from '../connection/connection.ts';
import { rowsFiltered } from '../connection/faults.ts';

/** Counts documents and the bytes of their canonical texts. */
export type DocumentTotals = Pick<StateHead, 'documents' | 'bytes'>;

/**
 * Selects whether row-level security applies to the role, so that a statement may not see all documents and entries.
 */
export const IS_FILTERED = `row_security_active('loom_document') or row_security_active('loom_audit') as "isFiltered"`;

/** Throws `state_inconsistent` if `IS_FILTERED` is true. A hidden row would look like one that does not exist. */
export function assertUnfiltered(isFiltered: boolean): void {
  if (isFiltered) throw rowsFiltered();
}

/** Throws `state_inconsistent` if a policy can hide changes of documents from the index. */
export async function assertIndexUnfiltered(queries: Queries): Promise<void> {
  const row = await queries.firstRow<{ isFiltered: boolean }>(
    `select row_security_active('loom_change') as "isFiltered"`,
  );
  assertUnfiltered(row?.isFiltered === true);
}

/**
 * Throws `state_inconsistent` unless the documents in the table add up to the totals of the state row. Call it in the
 * snapshot transaction that has read `head`.
 */
export async function assertConsistent(queries: Queries, head: StateHead): Promise<void> {
  assertTotals(head, await countDocuments(queries, head.stateKey));
}

/** Counts every row of the state, without reading a value. A transaction refuses to count where a policy hides rows. */
async function countDocuments(queries: Queries, stateKey: string): Promise<DocumentTotals> {
  const row = await queries.firstRow<DocumentTotals>(
    'select count(*) as documents, coalesce(sum(bytes), 0) as bytes from loom_document where state_key = $1',
    [stateKey],
  );
  return row ?? { documents: 0, bytes: 0 };
}

/** Throws `state_inconsistent` unless what was read has the totals of the state row. */
export function assertTotals(head: StateHead, found: DocumentTotals): void {
  const fault = describeTotalsFault(head, found);
  if (fault !== undefined) throw new LoomError('state_inconsistent', fault);
}

/** Describes how the totals of the state row differ from what was found; undefined if they are the same. */
export function describeTotalsFault(head: StateHead, found: DocumentTotals): string | undefined {
  if (found.documents === head.documents && found.bytes === head.bytes) return undefined;
  return (
    `The state row counts ${totalsText(head)}, and the node found ${totalsText(found)}. ` +
    'Rows were changed by hand, are hidden by a policy, or were lost. Find the cause. ' +
    'If the documents are right, correct the counts with docs/repair-state.sql.'
  );
}

function totalsText({ documents, bytes }: DocumentTotals): string {
  return `${documents} ${documents === 1 ? 'document' : 'documents'} with ${bytes} bytes`;
}
