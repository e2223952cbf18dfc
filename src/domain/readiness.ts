import type { ProbeReason, ProbeVerdict } from './probe.ts';

/** What `GET /ready` answers. It is public: no version, host or user in it. */
export interface Readiness {
  ok: boolean;
  checks: { http: 'ok' | 'draining'; database: ProbeVerdict['database']; schema: ProbeVerdict['schema'] };
  /** Set exactly when `ok` is false. */
  reason?: ProbeReason | 'draining';
}

/** A node that is shutting down says so first, whatever its database does. */
export function readinessOf(verdict: ProbeVerdict, draining: boolean): Readiness {
  const checks: Readiness['checks'] = {
    http: draining ? 'draining' : 'ok',
    database: verdict.database,
    schema: verdict.schema,
  };
  const reason = draining ? 'draining' : verdict.reason;
  return reason === undefined ? { ok: true, checks } : { ok: false, checks, reason };
}
