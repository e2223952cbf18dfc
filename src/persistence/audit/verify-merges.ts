import type { AuditMismatch } from '../../domain/audit.ts';
import { limits } from '../../limits.ts';
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

/** Divides them further, so that a verification that must yield can pause more often. */
const YIELDING_PARTS = 8;

/** Returns one statement for all parts, which several workers share, or one for each part. */
function partStatements(mustYield: boolean): string[] {
  const count = mustYield ? YIELDING_PARTS : PARTS;
  const parts = Array.from(
    { length: count },
    (_, part) => `select name, seq from loom_wrong_merges($1, $2, $3, ${part}, ${count})`,
  );
  return mustYield ? parts : [parts.join(' union all ')];
}

interface WrongMerge {
  count: number;
  seq: number;
  name: string;
}

/** Compares in the order of PostgreSQL's collation "C". */
function compareNames({ document: one = '' }: AuditMismatch, { document: other = '' }: AuditMismatch): number {
  return Buffer.compare(Buffer.from(one), Buffer.from(other));
}

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
  const wrong: Mismatches = { count: 0, listed: [] };
  for (const statement of partStatements(await connection.mustYield())) {
    const startedMs = performance.now();
    const rows = await connection.rows<WrongMerge>(
      `select name, least(seq, ${MAX_SEQ}) as seq, ${COUNTED} from (${statement}) wrong order by 2, 1 ${LIST_LIMIT}`,
      [stateKey, untoldSeqs, index.count > 0],
    );
    const { count, listed } = toMismatches(rows, describeUnproven);
    wrong.count += count;
    wrong.listed.push(...listed);
    await connection.pauseAfter(startedMs);
  }
  wrong.listed.sort((one, other) => (one.seq ?? 0) - (other.seq ?? 0) || compareNames(one, other));
  return { ...wrong, listed: wrong.listed.slice(0, limits.maxListedMismatches) };
}
