export const databaseChecks = [
  'ok',
  'unreachable',
  'slow',
  'starting',
  'read_only',
  'forbidden',
  'stalled',
  'failing',
] as const;

export const schemaChecks = ['ok', 'behind', 'ahead', 'damaged', 'unknown'] as const;

/** Reports the probe's last checks of the database. `GET /ready` answers from it, without a query. */
export interface ProbeVerdict {
  /** Whether the database provides all that serving needs. */
  ok: boolean;
  database: (typeof databaseChecks)[number];
  schema: (typeof schemaChecks)[number];
  /** Set if and only if `ok` is false. */
  reason?: ProbeReason;
  /** Says what is wrong and what to do. It names objects and roles of the database, so it is only for operators. */
  detail?: string;
  /** Duration of the last successful check, including the time to connect; null before the first. */
  latencyMs: number | null;
}

export const probeReasons = [
  'starting',
  'db_unreachable',
  'db_slow',
  'db_read_only',
  'db_forbidden',
  'db_commits_stalled',
  'db_commits_failing',
  'schema_behind',
  'schema_ahead',
  'schema_damaged',
  'state_missing',
] as const;

export type ProbeReason = (typeof probeReasons)[number];
