/** Reports the probe's last checks of the database. `GET /ready` answers from it, without a query. */
export interface ProbeVerdict {
  /** Whether the database answers and this node supports its schema. */
  ok: boolean;
  database: 'ok' | 'unreachable' | 'slow' | 'starting';
  schema: 'ok' | 'behind' | 'ahead' | 'unknown';
  /** Set if and only if `ok` is false. */
  reason?: ProbeReason;
  /** Duration of the last successful check, including the time to connect; null before the first. */
  latencyMs: number | null;
}

export type ProbeReason = 'starting' | 'db_unreachable' | 'db_slow' | 'schema_behind' | 'schema_ahead';
