import type { VerifiedBackup } from '../../backup/offline/verifier.ts';
import type { RestoreReport } from '../../domain/backup.ts';
import type { StatusReport } from '../../domain/status.ts';
import { isLoomError } from '../../errors.ts';
import { NodeError } from '../../http/client/node-error.ts';
import type { CommandContext } from '../command.ts';
import type { Progress } from '../terminal/progress.ts';
import { placeText } from '../terminal/text.ts';

/** Lists the steps in their order, with the titles that the summary shows. */
export const titles = {
  status: 'the node is ready',
  backup: 'a backup was taken',
  verify: 'the backup is verified, offline',
  plan: 'the node would restore it',
  restore: 'the node has restored it',
  compare: 'the restored state matches the backup',
  restored_chain: 'the restored audit chain is valid',
  live_chain: 'the live audit chain is valid',
  remove: 'the scratch state is removed',
  untouched: 'the live state was not changed',
};

type StepName = keyof typeof titles;

export interface StepResult {
  step: StepName;
  outcome: 'ok' | 'failed' | 'skipped';
  duration_ms: number;
  /** The finding, the fault, or the reason for skipping the step. */
  detail: string;
  /** The code of a failure, from docs/errors.md or docs/client-commands.md; null without one. */
  code: string | null;
}

/** The findings of the steps so far. Each step sets its own and reads those of the steps that it needs. */
export interface DrillFacts {
  before?: StatusReport;
  backup?: VerifiedBackup;
  plan?: RestoreReport;
  restored?: RestoreReport;
  scratchKey: string;
  /** Whether a scratch state may exist, even if the node has not answered. */
  hasAskedForRestore: boolean;
}

/** Returns a finding of a needed step. Throws if that step did not run, which is a bug. */
export function known<T>(fact: T | undefined): T {
  if (fact === undefined) throw new Error('a step ran without a step that it needs');
  return fact;
}

/** Reports a fault that the drill itself found. The node and the verifier report others with their own codes. */
export class DrillFault extends Error {}

interface StepOptions {
  /** Steps that must have succeeded; otherwise this step is skipped. */
  needs: StepName[];
  /** Whether to run even after a stop, to clean up or to check the result. */
  evenWhenStopped?: boolean;
}

/** Creates a runner of steps that records and shows each result. A failed step does not end the drill. */
export function createSteps({ stop, isWatched, writeError }: CommandContext, progress: Progress) {
  const results: StepResult[] = [];

  function add(result: StepResult): void {
    results.push(result);
    progress.end();
    if (isWatched) writeError(`${result.outcome.padEnd(7)} ${result.step}${timeText(result)}\n`);
  }

  function skip(step: StepName, detail: string): void {
    add({ step, outcome: 'skipped', duration_ms: 0, detail, code: null });
  }

  function succeeded(step: StepName): boolean {
    return results.some((one) => one.step === step && one.outcome === 'ok');
  }

  /** Runs a step. `work` resolves with the detail, or rejects with the fault. */
  async function run(step: StepName, { needs, evenWhenStopped = false }: StepOptions, work: () => Promise<string>) {
    if (stop.aborted && !evenWhenStopped) return skip(step, 'the drill was stopped');
    const missing = needs.find((need) => !succeeded(need));
    if (missing !== undefined) return skip(step, `needs ${missing}, which did not succeed`);
    progress.begin(step);
    const startedMs = performance.now();
    const [outcome, detail, code] = await work().then(
      (found) => ['ok', found, null] as const,
      (error: unknown) => ['failed', ...faultOf(error)] as const,
    );
    add({ step, outcome, duration_ms: Math.round(performance.now() - startedMs), detail, code });
  }

  return { results, succeeded, skip, run };
}

function timeText({ outcome, duration_ms: ms }: StepResult): string {
  return outcome === 'skipped' ? '' : ` (${(ms / 1000).toFixed(2)} s)`;
}

function faultOf(error: unknown): [detail: string, code: string | null] {
  const message = error instanceof Error ? error.message : String(error);
  if (isLoomError(error) || error instanceof NodeError) return [`${message}${placeText(error.place)}`, error.code];
  return [message, error instanceof DrillFault ? 'drill_failed' : null];
}
