import { limits } from '../../limits.ts';
import { fileIsOlder, fileShowsTooLittle, historyLost, restoreMayExplain } from './against-faults.ts';
import { findImported } from './imports.ts';
import { firstEntrySeq, lastCommonSeq, type Trail, trailStart, wasExportedBefore } from './trail.ts';
import { readHistory, type Truncation } from './truncations.ts';

/** How the trail of an earlier backup lives on. */
export type Continuity =
  /** Every entry is in the file's trail, at its place. */
  | { kind: 'held' }
  /** Each from `from` on is inside an `audit.import` entry. */
  | (Parting & { kind: 'imported' })
  /** The file's trail says that a restore took out those from `from` on; `imported` of them came back as imports. */
  | (Parting & { kind: 'taken_out'; by: Truncation });

interface Parting {
  /** Seq of the first of the earlier entries that are not at their place. */
  from: number;
  imported: number;
  /** Whether all before `from` is known to be the same in both. */
  isSameBefore: boolean;
}

/**
 * Shows that the audit trail of `earlier` lives on in `file`, both found whole by `verifyBackup`. That is how a tail that was cut
 * off is found, or a trail that was written anew: no chain can show that by itself. Throws `audit_history_lost` with the seq of the
 * first entry that is gone, or `audit_history_unproven` when the two files cannot tell. Memory does not grow with the files:
 * `window` is how many entries are looked for at once.
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
 * Whether a truncating restore explains that earlier entries are not in the file. It stands where the trails part. Where that is not in
 * view, only the hash of the head that it took out tells that it was this trail.
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
    // Where the trails part, and what the file says of it, comes before what is in the file.
    if (trailStart(file) > 0) return fileShowsTooLittle(file, earlier);
    if (maybe !== undefined) return restoreMayExplain(maybe, earlier);
  }
  return historyLost(file, earlier, {
    seq: isShorter ? endsAt + 1 : lost,
    how: by ?? (isShorter ? 'cut' : common === undefined ? 'parted' : 'differs'),
  });
}
