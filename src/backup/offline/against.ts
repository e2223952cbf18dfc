import { limits } from '../../limits.ts';
import { fileIsOlder, fileShowsTooLittle, historyLost, restoreMayExplain } from './against-faults.ts';
import { findImported } from './imports.ts';
import { firstEntrySeq, lastCommonSeq, type Trail, trailStart, wasExportedBefore } from './trail.ts';
import { readHistory, type Truncation } from './truncations.ts';

/** How a later trail continues the trail of an earlier backup. */
export type Continuity =
  /** Every entry is in the file's trail, with the same seq. */
  | { kind: 'held' }
  /** Each entry from `from` on is inside an `audit.import` entry. */
  | (Parting & { kind: 'imported' })
  /** A restore in the file's trail removed the entries from `from` on; `imported` of them came back as imports. */
  | (Parting & { kind: 'taken_out'; by: Truncation });

interface Parting {
  /** Seq of the first earlier entry that the file does not have with the same seq. */
  from: number;
  imported: number;
  /** Whether all entries before `from` are known to be equal in both. */
  isSameBefore: boolean;
}

/**
 * Checks that `file` continues the audit trail of `earlier`. Both must be verified. This finds a removed tail and a
 * rewritten trail, which no chain shows by itself. Throws `audit_history_lost` with the seq of the first missing entry,
 * or `audit_history_unproven` when the two files do not have enough entries to tell. Memory does not grow with the
 * files: `window` is the number of entries to look for at once.
 */
export async function checkAgainst(
  file: Trail,
  earlier: Trail,
  window: number = limits.verifyWindow,
): Promise<Continuity> {
  const head = earlier.manifest.audit_head;
  if (head.seq === 0) return { kind: 'held' };
  const common = await lastCommonSeq(file, earlier);
  if (common === head.seq) return { kind: 'held' };
  const from = common === undefined ? firstEntrySeq(earlier) : common + 1;
  const { truncation, hasImports } = await readHistory(file, (one) => rankOf(one, common, file, earlier));
  const by = truncation !== undefined && rankOf(truncation, common, file, earlier) >= EXPLAINS ? truncation : undefined;
  const excusedTo = by?.previousHead.seq ?? 0;
  const { imported, lost } = hasImports
    ? await findImported(file, earlier, { from, excusedTo, window })
    : { imported: 0, lost: excusedTo < head.seq ? Math.max(from, excusedTo + 1) : undefined };
  if (lost === undefined) {
    const parting = { from, imported, isSameBefore: common !== undefined };
    const isWhole = imported === head.seq - from + 1;
    return by === undefined || isWhole ? { kind: 'imported', ...parting } : { kind: 'taken_out', ...parting, by };
  }
  throw faultOf(file, earlier, { common, lost, by, maybe: truncation });
}

const NAMES_HEAD = 3;
const EXPLAINS = 2;
const MAY_EXPLAIN = 1;

/**
 * Ranks how well a truncating restore explains that the file lacks earlier entries. Such a restore is the first entry
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
  /** Seq of the first earlier entry that was not found. */
  lost: number;
  by: Truncation | undefined;
  maybe: Truncation | undefined;
}

function faultOf(file: Trail, earlier: Trail, { common, lost, by, maybe }: Missing): Error {
  const endsAt = file.manifest.audit_head.seq;
  const isShorter = common === undefined ? endsAt < trailStart(earlier) : common === endsAt;
  if (isShorter && wasExportedBefore(file, earlier)) return fileIsOlder(file, earlier);
  if (common === undefined) {
    // The file begins after the place where the trails diverge, so it cannot show why they do.
    if (trailStart(file) > 0) return fileShowsTooLittle(file, earlier);
    if (maybe !== undefined) return restoreMayExplain(maybe, earlier);
  }
  return historyLost(file, earlier, {
    seq: isShorter ? endsAt + 1 : lost,
    how: by ?? (isShorter ? 'cut' : common === undefined ? 'parted' : 'differs'),
  });
}
