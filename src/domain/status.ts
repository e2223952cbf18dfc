import { z } from 'zod';
import { auditHeadSchema } from './audit.ts';
import { storedBackupsStatusSchema } from './backup-run.ts';
import { count, epoch, revision, time } from './forms.ts';
import { readinessSchema } from './health/readiness.ts';
import { epochChangeSchema, scratchStateSchema, stateLocksSchema } from './state.ts';
import { chainCheckSchema, poolSchema, runningOperationSchema } from './store.ts';
import { undoRecordSchema } from './undo.ts';

const milliseconds = z.number().min(0);

const eventLoopDelaySchema = z
  .object({
    delay_mean_ms: milliseconds.nullable(),
    delay_p50_ms: milliseconds.nullable(),
    delay_p99_ms: milliseconds.nullable(),
    delay_max_ms: milliseconds.nullable(),
  })
  .describe('Delay of the event loop. Values are null until the first measurement');

export type EventLoopDelay = z.output<typeof eventLoopDelaySchema>;

const memorySchema = z.object({
  rss_bytes: count,
  heap_used_bytes: count,
  heap_total_bytes: count,
  external_bytes: count,
  bodies_bytes: count.describe('Memory that the requests in flight use for their bodies'),
  bodies_max_bytes: count,
  answers_bytes: count.describe('Memory that the requests in flight use for their answers'),
  answers_max_bytes: count,
});

const stateSchema = z.object({
  revision: revision.nullable(),
  epoch: epoch.nullable(),
  documents: count.nullable(),
  bytes: count.nullable(),
  updated_at: time.nullable(),
  epoch_changes: count.nullable().describe('Epochs that a commit started because the database had lost commits'),
  last_epoch_change: epochChangeSchema.nullable(),
});

export const statusReportSchema = z.object({
  ready: readinessSchema,
  ready_detail: z
    .string()
    .nullable()
    .describe('Says why the node is not ready and what to do. It names objects and roles of the database'),
  version: z.string(),
  node_version: z.string(),
  started_at: time,
  uptime_seconds: count,
  state_key: z.string(),
  state: stateSchema,
  last_backup_at: time.nullable(),
  last_restore_at: time.nullable(),
  future_times: z
    .array(z.string())
    .nullable()
    .describe("Members whose time is ahead of the database's clock, such as last_backup_at"),
  audit: z.object({
    entries: count.nullable(),
    head: auditHeadSchema.nullable(),
    last_check: chainCheckSchema.nullable(),
  }),
  schema: z.object({
    version: z.int().nullable(),
    supported: z.int(),
    compatible_from: z.int().nullable(),
    pending: count.nullable(),
  }),
  database: z.object({
    ok: z.boolean(),
    version: z.string().nullable(),
    latency_ms: milliseconds.nullable(),
    code: z.string().exactOptional().describe('Set if and only if "ok" is false'),
  }),
  pool: poolSchema,
  locks: stateLocksSchema.nullable().describe('Null while the database does not answer'),
  queue: z.object({ depth: count, max: count }).describe('Commits that wait'),
  operations: z.array(runningOperationSchema),
  event_loop: eventLoopDelaySchema,
  memory: memorySchema,
  connections: z
    .object({ open: count, idle: count, max: count })
    .describe('The connections of clients, of which "idle" have no request in flight'),
  undo: z.object({
    kept_most: count.describe('The maximum number of records that replaced something'),
    bytes: count.nullable().describe('Total size of the records'),
    kept: z
      .array(undoRecordSchema.extend({ age_seconds: count }))
      .nullable()
      .describe('Newest first'),
  }),
  scratch_states: z.array(scratchStateSchema).nullable(),
  stored_backups: storedBackupsStatusSchema.nullable().describe('Null without a backup store'),
});

/** Describes the answer of `GET /v1/admin/status`. Values from the database are null while it is unreachable. */
export type StatusReport = z.output<typeof statusReportSchema>;
