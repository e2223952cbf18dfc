import { isLoomError } from '../../errors.ts';
import { NodeError } from '../../http/client/node-error.ts';
import { placeText, printable } from '../terminal/text.ts';

/** The steps in their order. */
export type StepName =
  | 'status'
  | 'backup'
  | 'verify'
  | 'plan'
  | 'restore'
  | 'compare'
  | 'restored_chain'
  | 'live_chain'
  | 'remove'
  | 'untouched';

export interface StepResult {
  step: StepName;
  outcome: 'ok' | 'failed' | 'skipped';
  duration_ms: number;
  /** What was found, what was wrong, or why the step was skipped. */
  detail: string;
  /** The code of a failure, from docs/errors.md or of the client; null without one. */
  code: string | null;
}

/** A fault that the drill itself found, beyond what a node or the verifier refuses. */
export class DrillFault extends Error {}

export interface StepOptions {
  /** Steps that must have succeeded; otherwise this one proves nothing and is skipped. */
  needs: StepName[];
  /** Whether to run after a stop too: the step cleans up or checks what is left. */
  evenWhenStopped?: boolean;
}

export interface StepsOptions {
  stop: AbortSignal;
  nowMs: () => number;
  onBegin(step: StepName): void;
  onEnd(result: StepResult): void;
}

/** Creates a runner of steps that records each result. A failed step does not end the drill. */
export function createSteps({ stop, nowMs, onBegin, onEnd }: StepsOptions) {
  const results: StepResult[] = [];

  function add(result: StepResult): void {
    results.push(result);
    onEnd(result);
  }

  return {
    results,
    succeeded: (step: StepName): boolean => results.some((one) => one.step === step && one.outcome === 'ok'),
    skip: (step: StepName, detail: string): void => {
      add({ step, outcome: 'skipped', duration_ms: 0, detail, code: null });
    },
    /** Runs a step. `work` resolves with the detail, or rejects with the fault. */
    run: async (step: StepName, { needs, evenWhenStopped = false }: StepOptions, work: () => Promise<string>) => {
      const missing = needs.find((need) => !results.some((one) => one.step === need && one.outcome === 'ok'));
      const reason = missing === undefined ? undefined : `needs ${missing}, which did not succeed`;
      const stopped = stop.aborted && !evenWhenStopped ? 'the drill was stopped' : undefined;
      const why = stopped ?? reason;
      if (why !== undefined) {
        add({ step, outcome: 'skipped', duration_ms: 0, detail: why, code: null });
        return;
      }
      onBegin(step);
      const startedMs = nowMs();
      const [outcome, detail, code] = await work().then(
        (found) => ['ok', found, null] as const,
        (error: unknown) => ['failed', ...faultOf(error)] as const,
      );
      add({ step, outcome, duration_ms: Math.round(nowMs() - startedMs), detail, code });
    },
  };
}

function faultOf(error: unknown): [detail: string, code: string | null] {
  const message = printable(error instanceof Error ? error.message : String(error));
  if (isLoomError(error) || error instanceof NodeError) return [`${message}${placeText(error.place)}`, error.code];
  return [message, error instanceof DrillFault ? 'drill_failed' : null];
}
