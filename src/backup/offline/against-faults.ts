import { LoomError } from '../../errors.ts';
import { firstEntrySeq, type Trail, trailStart, wasExportedBefore } from './trail.ts';
import type { Truncation } from './truncations.ts';

/** Nothing was lost that could be seen; the arguments stand the wrong way round. */
export function fileIsOlder(file: Trail, earlier: Trail): LoomError {
  return unproven(
    `The file is older than the earlier backup: it was exported before it, and its trail ends with entry ${headSeq(file)}, the ` +
      `other's with entry ${headSeq(earlier)}. Give the newer of the two as FILE.`,
  );
}

export function fileShowsTooLittle(file: Trail, earlier: Trail): LoomError {
  const held =
    file.manifest.audit_first === null ? 'no audit entries' : `audit entries from ${trailStart(file) + 1} on`;
  return unproven(
    `The file holds ${held}, which do not show what became of the earlier backup's trail, whose last entry is ${headSeq(earlier)}. ` +
      'Take a backup with the whole trail.',
  );
}

export function restoreMayExplain(truncation: Truncation, earlier: Trail): LoomError {
  const held = earlier.manifest.audit_first === null ? 'has no entries' : `begins with entry ${firstEntrySeq(earlier)}`;
  return unproven(
    `${restoreText(truncation)}. That may have been the earlier backup's trail, but it ${held}, and so does not show whether it was. ` +
      'Give an earlier backup with the whole trail.',
  );
}

export interface Loss {
  /** Of the first earlier entry that is gone. */
  seq: number;
  /** A truncating restore that does not explain all of it, or what is seen instead. */
  how: Truncation | 'cut' | 'parted' | 'differs';
}

export function historyLost(file: Trail, earlier: Trail, { seq, how }: Loss): LoomError {
  const swapped = wasExportedBefore(file, earlier)
    ? ' It was exported before the earlier backup: are the two swapped?'
    : '';
  return new LoomError('audit_history_lost', `${lossText(file, earlier, { seq, how })}${swapped}`, { seq });
}

function lossText(file: Trail, earlier: Trail, { seq, how }: Loss): string {
  switch (how) {
    case 'cut':
      return (
        `The tail is missing: the earlier backup's trail goes on to entry ${headSeq(earlier)}, and the file's ends with entry ` +
        `${headSeq(file)}.`
      );
    case 'parted':
      return `Entry ${seq} is missing: the two trails parted before it, and nothing in the file says why.`;
    case 'differs':
      return `Entry ${seq} differs: the file does not hold the earlier backup's, and nothing in it says why.`;
    default:
      return (
        `${restoreText(how)}, but entry ${seq} is not in the file either, and the earlier backup's trail goes on to entry ` +
        `${headSeq(earlier)}.`
      );
  }
}

/** What a truncating restore has done, as a sentence without its end. */
export function restoreText(truncation: Truncation): string {
  const { seq, recordedAt, requestId, replacedEntries, previousHead, isTogether } = truncation;
  const range =
    replacedEntries === 1
      ? `1 entry out of the trail, ${seq}`
      : `${replacedEntries} entries out of the trail, ${seq} to ${previousHead.seq}`;
  const others = isTogether ? ' and an earlier one, whose own entry it took out,' : ',';
  const which = `The restore of entry ${seq}, recorded at ${recordedAt} with request id ${JSON.stringify(requestId)}`;
  return `${which}${others} took ${range}`;
}

function unproven(detail: string): LoomError {
  return new LoomError('audit_history_unproven', detail);
}

function headSeq({ manifest }: Trail): number {
  return manifest.audit_head.seq;
}
