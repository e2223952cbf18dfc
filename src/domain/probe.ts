/** What the node last saw of its database. `GET /ready` shows it without asking the database again. */
export interface ProbeVerdict {
  /** Whether the database may be used: it answers, and its schema is one that this node serves. */
  ok: boolean;
  database: 'ok' | 'unreachable' | 'slow' | 'starting';
  schema: 'ok' | 'behind' | 'ahead' | 'unknown';
  /** Set exactly when `ok` is false. */
  reason?: ProbeReason;
  /** How long the last good check took, with the connection when one had to be made; `null` while there is none. */
  latencyMs: number | null;
}

export type ProbeReason = 'starting' | 'db_unreachable' | 'db_slow' | 'schema_behind' | 'schema_ahead';
