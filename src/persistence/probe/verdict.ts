import type { ProbeVerdict } from '../../domain/health/probe.ts';
import type { ServingVerdict } from '../schema/serving.ts';

export type CheckOutcome =
  | { kind: 'answered'; latencyMs: number; serving: ServingVerdict }
  /** The connection was open, but no answer came before the deadline. */
  | { kind: 'slow'; detail?: string }
  /** No connection could be opened or kept before the deadline. */
  | { kind: 'unreachable'; detail?: string };

export interface ProbeState {
  verdict: ProbeVerdict;
  badInARow: number;
}

export interface VerdictRules {
  /** Number of consecutive bad checks that change the verdict. */
  badChecks: number;
}

export const startingState: ProbeState = {
  verdict: { ok: false, database: 'starting', schema: 'unknown', reason: 'starting', latencyMs: null },
  badInARow: 0,
};

/**
 * Computes the next state of the probe. What the database answers counts at once, good or bad. Without an answer, the
 * verdict turns bad only after several consecutive checks, because one slow check is no outage.
 */
export function nextProbeState(state: ProbeState, outcome: CheckOutcome, rules: VerdictRules): ProbeState {
  if (outcome.kind === 'answered') return { verdict: answeredVerdict(outcome), badInARow: 0 };
  const badInARow = state.badInARow + 1;
  if (badInARow < rules.badChecks) return { verdict: state.verdict, badInARow };
  const reason = outcome.kind === 'slow' ? 'db_slow' : 'db_unreachable';
  const { kind, detail } = outcome;
  const verdict: ProbeVerdict = { ok: false, database: kind, schema: 'unknown', reason, latencyMs: null };
  return { verdict: detail === undefined ? verdict : { ...verdict, detail }, badInARow };
}

/** Returns the pause before the next check: regular while the database answers, otherwise doubling up to a bound. */
export function probePauseMs(
  badInARow: number,
  { intervalMs, minBackoffMs, maxBackoffMs }: Record<'intervalMs' | 'minBackoffMs' | 'maxBackoffMs', number>,
): number {
  if (badInARow === 0) return intervalMs;
  return Math.min(maxBackoffMs, minBackoffMs * 2 ** (badInARow - 1));
}

function answeredVerdict({ serving, latencyMs }: Extract<CheckOutcome, { kind: 'answered' }>): ProbeVerdict {
  return { ok: serving.reason === undefined, ...serving, latencyMs };
}
