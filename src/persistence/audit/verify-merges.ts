import type { Connection } from '../connection/connection.ts';
import {
  type CheckedChanges,
  COUNTED,
  describeUnproven,
  LIST_LIMIT,
  MAX_SEQ,
  type Mismatches,
  NO_MISMATCHES,
  toMismatches,
} from './verify-changes.ts';

/** Divides the documents, so that several workers apply their patches. A power of two; each part reads the index. */
const PARTS = 4;

const WRONG_MERGES = Array.from(
  { length: PARTS },
  (_, part) => `select name, seq from loom_wrong_merges($1, $2, $3, ${part}, ${PARTS})`,
).join(' union all ');

/**
 * Compares the result of each merge with the digest that its entry claims. Names the first wrong merge after each put
 * or deletion, because the later ones build on it. Leaves out documents that the trail does not tell.
 */
export async function checkMerges(
  connection: Connection,
  stateKey: string,
  { hasMerges, untoldSeqs, index }: CheckedChanges,
): Promise<Mismatches> {
  if (!hasMerges) return NO_MISMATCHES;
  const rows = await connection.rows<{ count: number; seq: number; name: string }>(
    `select name, least(seq, ${MAX_SEQ}) as seq, ${COUNTED} from (${WRONG_MERGES}) wrong order by 2, 1 ${LIST_LIMIT}`,
    [stateKey, untoldSeqs, index.count > 0],
  );
  return toMismatches(rows, describeUnproven);
}
