import type { ProbeReason, ProbeVerdict } from './probe.ts';

/** Describes the answer of `GET /ready`. The route is public, so the answer contains no version, host or user. */
export interface Readiness {
  ok: boolean;
  checks: { http: 'ok' | 'draining'; database: ProbeVerdict['database']; schema: ProbeVerdict['schema'] };
  /** Set if and only if `ok` is false. */
  reason?: ProbeReason | 'draining';
}

/** Creates the answer from the probe's verdict. `draining` takes precedence over the verdict's reason. */
export function readinessOf(verdict: ProbeVerdict, draining: boolean): Readiness {
  const checks: Readiness['checks'] = {
    http: draining ? 'draining' : 'ok',
    database: verdict.database,
    schema: verdict.schema,
  };
  const reason = draining ? 'draining' : verdict.reason;
  return reason === undefined ? { ok: true, checks } : { ok: false, checks, reason };
}
