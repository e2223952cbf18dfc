import type { VerifiedBackup } from '../../backup/offline/verifier.ts';
import type { RestoreReport } from '../../domain/backup.ts';
import type { StatusReport } from '../../domain/status.ts';

/** What the steps have found so far. Each step sets its part and reads the parts of the steps that it needs. */
export interface DrillFacts {
  before: StatusReport | undefined;
  backup: VerifiedBackup | undefined;
  plan: RestoreReport | undefined;
  restored: RestoreReport | undefined;
  scratchKey: string;
  /** Whether there may be a scratch state to remove, even without an answer. */
  hasAskedForRestore: boolean;
}

/** Returns a fact of a step that was needed. Throws if that step did not run, which is a bug. */
export function known<T>(fact: T | undefined): T {
  if (fact === undefined) throw new Error('a step ran without one that it needs');
  return fact;
}
