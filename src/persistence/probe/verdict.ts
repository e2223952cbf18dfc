import type { ProbeVerdict } from '../../domain/probe.ts';

/** What one check of the database came to. */
export type CheckOutcome =
  | { kind: 'answered'; latencyMs: number; schemaVersion: number | null; compatibleFrom: number | null }
  /** A connection was there, but no answer came before the deadline. */
  | { kind: 'slow' }
  /** No connection could be made or kept, or not before the deadline. */
  | { kind: 'unreachable' };

export interface ProbeState {
  verdict: ProbeVerdict;
  badInARow: number;
}

export interface VerdictRules {
  /** So many bad checks in a row change the verdict. */
  badChecks: number;
  supportedSchemaVersion: number;
}

export const startingState: ProbeState = {
  verdict: { ok: false, database: 'starting', schema: 'unknown', reason: 'starting', latencyMs: null },
  badInARow: 0,
};

/**
 * Slow to condemn, quick to forgive: a verdict turns bad only after several bad checks in a row, since one slow check is
 * no outage; a single good check proves that the database answers.
 */
export function nextProbeState(state: ProbeState, outcome: CheckOutcome, rules: VerdictRules): ProbeState {
  if (outcome.kind === 'answered') return { verdict: answeredVerdict(outcome, rules), badInARow: 0 };
  const badInARow = state.badInARow + 1;
  if (badInARow < rules.badChecks) return { verdict: state.verdict, badInARow };
  const reason = outcome.kind === 'slow' ? 'db_slow' : 'db_unreachable';
  return { verdict: { ok: false, database: outcome.kind, schema: 'unknown', reason, latencyMs: null }, badInARow };
}

/** The pause before the next check: regular while the database answers, then growing up to a bound. */
export function probePauseMs(
  badInARow: number,
  { intervalMs, minBackoffMs, maxBackoffMs }: { intervalMs: number; minBackoffMs: number; maxBackoffMs: number },
): number {
  if (badInARow === 0) return intervalMs;
  return Math.min(maxBackoffMs, minBackoffMs * 2 ** (badInARow - 1));
}

/** A newer schema is served as long as it says that nodes of this version may; an older one never. */
export function judgeSchema(
  schemaVersion: number | null,
  compatibleFrom: number | null,
  supported: number,
): 'ok' | 'behind' | 'ahead' {
  if (schemaVersion === null || schemaVersion < supported) return 'behind';
  if (compatibleFrom !== null) return compatibleFrom > supported ? 'ahead' : 'ok';
  return schemaVersion > supported ? 'ahead' : 'ok';
}

function answeredVerdict(
  outcome: Extract<CheckOutcome, { kind: 'answered' }>,
  { supportedSchemaVersion }: VerdictRules,
): ProbeVerdict {
  const schema = judgeSchema(outcome.schemaVersion, outcome.compatibleFrom, supportedSchemaVersion);
  const { latencyMs } = outcome;
  if (schema === 'ok') return { ok: true, database: 'ok', schema, latencyMs };
  return { ok: false, database: 'ok', schema, reason: `schema_${schema}`, latencyMs };
}
