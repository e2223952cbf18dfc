import { limits } from '../../limits.ts';
import { fileHasTooFewEntries, fileIsOlder, historyLost, restoreMayExplain } from './against-faults.ts';
import { findImported } from './imports.ts';
import { firstEntrySeq, lastCommonSeq, type Trail, trailStart, wasExportedBefore } from './trail.ts';
import { readHistory, type Truncation } from './truncations.ts';

/** Describes how a later trail continues the trail of an earlier backup. */
export type Continuity =
  /** The file's trail contains every entry with the same seq. */
  | { kind: 'continued' }
  /** An `audit.import` entry contains each entry from `from` on. */
  | (Parting & { kind: 'imported' })
  /** A restore in the file's trail removed the entries from `from` on. `imported` of them were imported again. */
  | (Parting & { kind: 'taken_out'; by: Truncation });

interface Parting {
  /** Seq of the first earlier entry that the file's trail lacks at that seq. */
  from: number;
  imported: number;
  /** Whether both files show that all entries before `from` are equal. */
  isSameBefore: boolean;
}

/**
 * Checks that `file` continues the audit trail of `earlier`. Both must be verified. The check detects a removed tail
 * and a rewritten trail, which a chain alone cannot show. Throws `audit_history_lost` with the seq of the first missing
 * entry, or `audit_history_unproven` when the files have too few entries. Memory does not grow with the files: each
 * reading searches for `window` entries.
 */
export async function checkAgainst(
  file: Trail,
  earlier: Trail,
  window: number = limits.verifyWindow,
): Promise<Continuity> {
  const head = earlier.manifest.audit_head;
  if (head.seq === 0) return { kind: 'continued' };
  const common = await lastCommonSeq(file, earlier);
  if (common === head.seq) return { kind: 'continued' };
  const from = common === undefined ? firstEntrySeq(earlier) : common + 1;
  const { truncation, hasImports } = await readHistory(file, (one) => rankOf(one, common, file, earlier));
  const by = truncation !== undefined && rankOf(truncation, common, file, earlier) >= EXPLAINS ? truncation : undefined;
  const explainedTo = by?.previousHead.seq ?? 0;
  const { imported, lost } = hasImports
    ? await findImported(file, earlier, { from, explainedTo, window })
    : { imported: 0, lost: explainedTo < head.seq ? Math.max(from, explainedTo + 1) : undefined };
  if (lost === undefined) {
    const parting = { from, imported, isSameBefore: common !== undefined };
    const isWhole = imported === head.seq - from + 1;
    return by === undefined || isWhole ? { kind: 'imported', ...parting } : { kind: 'taken_out', ...parting, by };
  }
  throw toContinuityError(file, earlier, { common, lost, by, candidate: truncation });
}

const NAMES_HEAD = 3;
const EXPLAINS = 2;
const MAY_EXPLAIN = 1;

/**
 * Ranks how well a truncating restore explains the missing entries; 0 if it does not. Such a restore is the first entry
 * after the common ones. If the files do not show that place, only the hash of the removed head identifies the trail.
 */
function rankOf({ seq, previousHead }: Truncation, common: number | undefined, file: Trail, earlier: Trail): number {
  const head = earlier.manifest.audit_head;
  const isHead = previousHead.hash === head.hash;
  if (previousHead.seq === head.seq && !isHead) return 0;
  if (common !== undefined) return seq !== common + 1 ? 0 : isHead ? NAMES_HEAD : EXPLAINS;
  if (seq > Math.max(trailStart(file), trailStart(earlier))) return 0;
  if (isHead) return NAMES_HEAD;
  return seq <= head.seq && head.seq <= previousHead.seq ? MAY_EXPLAIN : 0;
}

interface Missing {
  common: number | undefined;
  /** Seq of the first missing entry. */
  lost: number;
  by: Truncation | undefined;
  candidate: Truncation | undefined;
}

function toContinuityError(file: Trail, earlier: Trail, { common, lost, by, candidate }: Missing): Error {
  const endsAt = file.manifest.audit_head.seq;
  const isShorter = common === undefined ? endsAt < trailStart(earlier) : common === endsAt;
  if (isShorter && wasExportedBefore(file, earlier)) return fileIsOlder(file, earlier);
  if (common === undefined) {
    // The file begins after the trails diverge, so it cannot contain the reason.
    if (trailStart(file) > 0) return fileHasTooFewEntries(file, earlier);
    if (candidate !== undefined) return restoreMayExplain(candidate, earlier);
  }
  return historyLost(file, earlier, {
    seq: isShorter ? endsAt + 1 : lost,
    how: by ?? (isShorter ? 'cut' : common === undefined ? 'parted' : 'differs'),
  });
}
