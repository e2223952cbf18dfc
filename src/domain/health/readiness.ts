import { z } from 'zod';
import { databaseChecks, type ProbeVerdict, probeReasons, schemaChecks } from './probe.ts';

// src/domain/health/ defines whether a node is ready, and why not. It may import zod. It must not know how the probe
// checks the database, nor the routes that answer from it.

/** Defines the answer of `GET /live`. */
export const livenessSchema = z.object({ ok: z.literal(true) });

export const readinessSchema = z.object({
  ok: z.boolean(),
  checks: z.object({
    http: z.enum(['ok', 'draining']),
    database: z.enum(databaseChecks),
    schema: z.enum(schemaChecks),
  }),
  reason: z
    .enum([...probeReasons, 'draining'])
    .exactOptional()
    .describe('Set if and only if "ok" is false'),
});

/** Describes the answer of `GET /ready`. The route is public, so the answer contains no version, host or user. */
export type Readiness = z.output<typeof readinessSchema>;

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
