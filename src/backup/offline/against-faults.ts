import { LoomError } from '../../errors.ts';
import { firstEntrySeq, type Trail, trailStart, wasExportedBefore } from './trail.ts';
import type { Truncation } from './truncations.ts';

/** Creates the error for swapped arguments. The files show no loss. */
export function fileIsOlder(file: Trail, earlier: Trail): LoomError {
  return unproven(
    `FILE is older than EARLIER: its export is earlier, and its audit trail ends with entry ` +
      `${headSeq(file)}; that of EARLIER ends with entry ${headSeq(earlier)}. Pass the newer backup as FILE.`,
  );
}

export function fileHasTooFewEntries(file: Trail, earlier: Trail): LoomError {
  const found = file.manifest.audit_first === null ? 'has no entries' : `begins with entry ${trailStart(file) + 1}`;
  return unproven(
    `The audit trail of FILE ${found}, so it does not show whether it continues that of EARLIER, which ends with ` +
      `entry ${headSeq(earlier)}. Take a backup with the complete audit trail.`,
  );
}

export function restoreMayExplain(truncation: Truncation, earlier: Trail): LoomError {
  const found =
    earlier.manifest.audit_first === null ? 'has no entries' : `begins with entry ${firstEntrySeq(earlier)}`;
  return unproven(
    `${truncationText(truncation)}. These may have been entries of EARLIER. The audit trail of EARLIER ${found}, ` +
      'so it does not show this. Pass a backup with the complete audit trail as EARLIER.',
  );
}

export interface Loss {
  /** Seq of the first missing entry. */
  seq: number;
  /** The truncating restore that explains part of the loss; otherwise the difference between the trails. */
  how: Truncation | 'cut' | 'parted' | 'differs';
}

export function historyLost(file: Trail, earlier: Trail, { seq, how }: Loss): LoomError {
  const swapped = wasExportedBefore(file, earlier)
    ? ' FILE was exported before EARLIER: check whether the two are swapped.'
    : '';
  return new LoomError('audit_history_lost', `${lossText(file, earlier, { seq, how })}${swapped}`, { seq });
}

function lossText(file: Trail, earlier: Trail, { seq, how }: Loss): string {
  switch (how) {
    case 'cut':
      return (
        'FILE lacks the last entries of EARLIER: ' +
        `EARLIER ends with entry ${headSeq(earlier)}, FILE with entry ${headSeq(file)}.`
      );
    case 'parted':
      return `Entry ${seq} is missing: the audit trails diverge before it, and FILE records no reason.`;
    case 'differs':
      return `Entry ${seq} differs from EARLIER, and FILE records no reason.`;
    default:
      return `${truncationText(how)}. Entry ${seq} is also missing: EARLIER ends with entry ${headSeq(earlier)}.`;
  }
}

/** Describes a truncating restore in a sentence without its full stop. */
export function truncationText(truncation: Truncation): string {
  const { seq, recordedAt, requestId, replacedEntries, previousHead, includesEarlierRestore } = truncation;
  const range =
    replacedEntries === 1
      ? `entry ${seq} from the audit trail`
      : `${replacedEntries} entries from the audit trail, ${seq} to ${previousHead.seq}`;
  const others = includesEarlierRestore ? ' and an earlier restore, whose own entry it removed,' : ',';
  const which = `The restore in entry ${seq}, recorded at ${recordedAt} with request id ${JSON.stringify(requestId)}`;
  return `${which}${others} removed ${range}`;
}

function unproven(detail: string): LoomError {
  return new LoomError('audit_history_unproven', detail);
}

function headSeq({ manifest }: Trail): number {
  return manifest.audit_head.seq;
}
