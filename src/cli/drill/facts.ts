import type { VerifiedBackup } from '../../backup/offline/verifier.ts';
import type { RestoreReport } from '../../domain/backup.ts';
import type { StatusReport } from '../../domain/status.ts';

/** What is known so far; each step fills in its part and may rely on those of the steps that it needs. */
export interface DrillFacts {
  before: StatusReport | undefined;
  backup: VerifiedBackup | undefined;
  plan: RestoreReport | undefined;
  restored: RestoreReport | undefined;
  scratchKey: string;
  /** Whether there may be something to remove, also when no answer came. */
  hasAskedForRestore: boolean;
}

/** Of a step that was needed, so it is there. */
export function known<T>(fact: T | undefined): T {
  if (fact === undefined) throw new Error('a step ran without one that it needs');
  return fact;
}
