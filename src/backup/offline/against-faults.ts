import { LoomError } from '../../errors.ts';
import { firstEntrySeq, type Trail, trailStart, wasExportedBefore } from './trail.ts';
import type { Truncation } from './truncations.ts';

/** Creates the error for arguments in the wrong order. The files show no loss. */
export function fileIsOlder(file: Trail, earlier: Trail): LoomError {
  return unproven(
    `The file is older than the earlier backup: it was exported before it, and its audit trail ends with entry ${headSeq(file)}; ` +
      `the other ends with entry ${headSeq(earlier)}. Give the newer backup as FILE.`,
  );
}

export function fileShowsTooLittle(file: Trail, earlier: Trail): LoomError {
  const held =
    file.manifest.audit_first === null ? 'no audit entries' : `audit entries from ${trailStart(file) + 1} on`;
  return unproven(
    `The file has ${held}, so it does not show what became of the earlier backup's audit trail, which ends with entry ` +
      `${headSeq(earlier)}. Take a backup with the complete audit trail.`,
  );
}

export function restoreMayExplain(truncation: Truncation, earlier: Trail): LoomError {
  const held = earlier.manifest.audit_first === null ? 'has no entries' : `begins with entry ${firstEntrySeq(earlier)}`;
  return unproven(
    `${truncationText(truncation)}. These may have been entries of the earlier backup's trail, but that backup ${held}, ` +
      'so it does not show whether they were. Give an earlier backup with the complete audit trail.',
  );
}

export interface Loss {
  /** Seq of the first missing entry. */
  seq: number;
  /** A truncating restore that explains only part of the loss, or else how the trails differ. */
  how: Truncation | 'cut' | 'parted' | 'differs';
}

export function historyLost(file: Trail, earlier: Trail, { seq, how }: Loss): LoomError {
  const swapped = wasExportedBefore(file, earlier)
    ? ' The file was exported before the earlier backup: are the two swapped?'
    : '';
  return new LoomError('audit_history_lost', `${lossText(file, earlier, { seq, how })}${swapped}`, { seq });
}

function lossText(file: Trail, earlier: Trail, { seq, how }: Loss): string {
  switch (how) {
    case 'cut':
      return (
        `The tail is missing: the earlier backup's audit trail ends with entry ${headSeq(earlier)}; the file's ends with entry ` +
        `${headSeq(file)}.`
      );
    case 'parted':
      return `Entry ${seq} is missing: the two audit trails diverge before it, and the file does not say why.`;
    case 'differs':
      return `Entry ${seq} differs: the file does not have the entry of the earlier backup, and does not say why.`;
    default:
      return (
        `${truncationText(how)}. Entry ${seq} is missing too: the earlier backup's audit trail ends with entry ` +
        `${headSeq(earlier)}.`
      );
  }
}

/** Returns what a truncating restore did, as a sentence without its full stop. */
export function truncationText(truncation: Truncation): string {
  const { seq, recordedAt, requestId, replacedEntries, previousHead, isTogether } = truncation;
  const range =
    replacedEntries === 1
      ? `entry ${seq} from the audit trail`
      : `${replacedEntries} entries from the audit trail, ${seq} to ${previousHead.seq}`;
  const others = isTogether ? ' and an earlier restore, whose own entry it removed,' : ',';
  const which = `The restore in entry ${seq}, recorded at ${recordedAt} with request id ${JSON.stringify(requestId)}`;
  return `${which}${others} removed ${range}`;
}

function unproven(detail: string): LoomError {
  return new LoomError('audit_history_unproven', detail);
}

function headSeq({ manifest }: Trail): number {
  return manifest.audit_head.seq;
}
