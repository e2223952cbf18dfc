import type { AuditHead } from './audit.ts';
import type { Readiness } from './readiness.ts';
import type { EpochChange, ScratchState, StateLocks } from './state.ts';
import type { ChainCheckRecord, RunningOperation, StoreObservation } from './store.ts';
import type { UndoRecord } from './undo.ts';

/** Describes the answer of `GET /v1/admin/status`. Values from the database are null while it is unreachable. */
export interface StatusReport {
  ready: Readiness;
  /** Says why the node is not ready and what to do. It names objects and roles of the database. */
  ready_detail: string | null;
  version: string;
  node_version: string;
  started_at: string;
  uptime_seconds: number;
  state_key: string;
  state: {
    revision: number | null;
    epoch: string | null;
    documents: number | null;
    bytes: number | null;
    updated_at: string | null;
    /** Epochs that a commit started because the database had lost commits. */
    epoch_changes: number | null;
    last_epoch_change: EpochChange | null;
  };
  last_backup_at: string | null;
  last_restore_at: string | null;
  /** Members whose time is ahead of the database's clock, such as `last_backup_at`. */
  future_times: string[] | null;
  audit: { entries: number | null; head: AuditHead | null; last_check: ChainCheckRecord | null };
  schema: { version: number | null; supported: number; compatible_from: number | null; pending: number | null };
  database: { ok: boolean; version: string | null; latency_ms: number | null; code?: string };
  pool: StoreObservation['pool'];
  /** Null while the database does not answer. */
  locks: StateLocks | null;
  queue: { depth: number; max: number };
  operations: RunningOperation[];
  event_loop: EventLoopDelay;
  memory: {
    rss_bytes: number;
    heap_used_bytes: number;
    heap_total_bytes: number;
    external_bytes: number;
    /** Memory that the requests in flight use: for their bodies and for their answers, each with its limit. */
    bodies_bytes: number;
    bodies_max_bytes: number;
    answers_bytes: number;
    answers_max_bytes: number;
  };
  /** The connections of clients, of which `idle` have no request in flight. */
  connections: { open: number; idle: number; max: number };
  /** `kept` lists the undo records, newest first; `bytes` is their total size; `kept_most` limits their number. */
  undo: { kept_most: number; bytes: number | null; kept: (UndoRecord & { age_seconds: number })[] | null };
  scratch_states: ScratchState[] | null;
}

/** Reports the delay of the event loop. Values are null until the first measurement. */
export interface EventLoopDelay {
  delay_mean_ms: number | null;
  delay_p50_ms: number | null;
  delay_p99_ms: number | null;
  delay_max_ms: number | null;
}
