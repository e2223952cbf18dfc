import type { CommitFailures } from '../../domain/store.ts';
import { limits } from '../../limits.ts';
import type { ServingVerdict } from '../schema/serving.ts';

type CommitVerdict = Pick<ServingVerdict, 'database' | 'reason' | 'detail'>;

/** Watches whether commits end, and whether they succeed, although the server answers. */
export function createCommitWatch({
  now,
  failures = () => ({ batches: 0, ageMs: 0, fault: '' }),
}: {
  now: () => number;
  failures?: (() => CommitFailures) | undefined;
}) {
  /** When a check first saw each waiting session, on the probe's clock. */
  let waitingSince = new Map<string, number>();

  return {
    /** Judges the sessions that wait for a synchronous standby at this check. Returns undefined if commits succeed. */
    check: (waiting: string[]): CommitVerdict | undefined => {
      waitingSince = new Map(waiting.map((session) => [session, waitingSince.get(session) ?? now()]));
      const longest = Math.max(0, ...[...waitingSince.values()].map((since) => now() - since));
      if (longest >= limits.maxCommitStallMs)
        return { database: 'stalled', reason: 'db_commits_stalled', detail: STALLED };
      const { batches, ageMs, fault } = failures();
      if (batches < limits.minFailedCommitBatches || ageMs > limits.maxCommitFailureAgeMs) return undefined;
      return { database: 'failing', reason: 'db_commits_failing', detail: failingDetail(fault) };
    },
  };
}

const STALLED =
  'Commits wait for a synchronous standby that does not confirm them. ' +
  'Start the standby, or remove it from synchronous_standby_names.';

function failingDetail(fault: string): string {
  return `PostgreSQL answers, but has failed the last commits of this node: ${fault}. Check the log of the server and its disk.`;
}
