import type { FastifyInstance } from 'fastify';
import type { StoredBackups, StoredBackupsObservation } from '../../domain/backup-run.ts';
import type { Readiness } from '../../domain/health/readiness.ts';
import type { MemoryBudgets } from '../../domain/memory.ts';
import type { ObservedHead } from '../../domain/state.ts';
import { type StatusReport, statusReportSchema } from '../../domain/status.ts';
import type { Store } from '../../domain/store.ts';
import type { UndoRecord } from '../../domain/undo.ts';
import { isLoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { watchEventLoop } from '../event-loop-delay.ts';
import { jsonAnswer, type Operation } from '../openapi/operation.ts';
import { operatorRoute } from '../route-config.ts';
import { createTimedReader } from '../timed-reader.ts';

const readStatus = {
  id: 'readStatus',
  summary: 'Returns the node, its state, database and operations',
  answers: jsonAnswer(statusReportSchema, 'The status. Values from the database are null while it is unreachable.'),
} satisfies Operation;

/** Holds values that do not change while a node runs. */
export interface NodeFacts {
  version: string;
  startedAt: Date;
  /** Schema version that this node supports. */
  supportedSchemaVersion: number;
}

interface StatusRouteParts {
  store: Pick<Store, 'observe' | 'readDatabase' | 'readLocks' | 'readSchema' | 'readScratchStates' | 'readUndoRecords'>;
  stateKey: string;
  node: NodeFacts;
  readiness: () => Readiness;
  readinessDetail?: (() => string | undefined) | undefined;
  peekHead: () => Promise<ObservedHead | undefined>;
  memory: MemoryBudgets;
  storedBackups?: StoredBackups | undefined;
  /** Resolves with undefined if the database does not answer in time. */
  peekStoredBackups: () => Promise<StoredBackupsObservation | undefined>;
  connections: () => StatusReport['connections'];
}

/** Registers the status route. If the database does not answer in time, its values are null. */
export function registerStatus(app: FastifyInstance, parts: StatusRouteParts): void {
  const { store, stateKey, node, readiness, readinessDetail, peekHead, memory, connections } = parts;
  const { storedBackups, peekStoredBackups } = parts;
  const readSchema = createTimedReader(() => store.readSchema());
  const readDatabase = createTimedReader(() => store.readDatabase());
  const readLocks = createTimedReader(() => store.readLocks());
  const readUndoRecords = createTimedReader(() => store.readUndoRecords());
  const readScratchStates = createTimedReader(() => store.readScratchStates());
  const eventLoop = watchEventLoop();
  app.addHook('onClose', async () => eventLoop.close());

  app.get('/v1/admin/status', operatorRoute('admin', readStatus), async (): Promise<StatusReport> => {
    const [head, schema, database, locks, undoRecords, scratchStates, runs] = await Promise.all([
      peekHead(),
      readSchema().catch(() => undefined),
      readDatabase().then(toDatabase, toDatabaseFault),
      readLocks().catch(() => null),
      readUndoRecords().catch(() => null),
      readScratchStates().catch(() => null),
      peekStoredBackups(),
    ]);
    const now = new Date();
    const { queueDepth, pool, operations, lastChainCheck } = store.observe();
    return {
      ready: readiness(),
      ready_detail: readinessDetail?.() ?? null,
      version: node.version,
      node_version: process.version,
      started_at: node.startedAt.toISOString(),
      uptime_seconds: secondsBetween(node.startedAt, now),
      state_key: stateKey,
      state: toState(head),
      last_backup_at: head?.lastBackupAt ?? null,
      last_restore_at: head?.lastRestoreAt ?? null,
      future_times: head?.futureTimes ?? null,
      audit: { entries: head?.head.seq ?? null, head: head?.head ?? null, last_check: lastChainCheck },
      schema: {
        version: schema?.schemaVersion ?? null,
        supported: node.supportedSchemaVersion,
        compatible_from: schema?.compatibleFrom ?? null,
        pending: schema?.pending.length ?? null,
      },
      database: judgeDatabase(database, readiness()),
      pool,
      locks,
      queue: { depth: queueDepth, max: limits.maxQueueCommits },
      operations,
      event_loop: eventLoop.delay(),
      memory: readMemory(memory),
      connections: connections(),
      undo: toUndo(undoRecords, now),
      scratch_states: scratchStates,
      stored_backups: storedBackups === undefined ? null : toStoredBackups(storedBackups.store, runs),
    };
  });
}

function toState(head: ObservedHead | undefined): StatusReport['state'] {
  return {
    revision: head?.revision ?? null,
    epoch: head?.epoch ?? null,
    documents: head?.documents ?? null,
    bytes: head?.bytes ?? null,
    updated_at: head?.updatedAt ?? null,
    epoch_changes: head?.epochChanges ?? null,
    last_epoch_change: head?.lastEpochChange ?? null,
  };
}

function toDatabase({ version, latencyMs }: { version: string; latencyMs: number }): StatusReport['database'] {
  return { ok: true, version, latency_ms: Math.round(latencyMs * 100) / 100 };
}

function toDatabaseFault(error: unknown): StatusReport['database'] {
  return { ok: false, version: null, latency_ms: null, code: isLoomError(error) ? error.code : 'internal' };
}

/** Returns the database as not ok, with the reason, if it answers but does not let the node serve. */
function judgeDatabase(database: StatusReport['database'], { checks, reason }: Readiness): StatusReport['database'] {
  const isUsable = !['read_only', 'forbidden', 'stalled', 'failing'].includes(checks.database);
  return !database.ok || isUsable ? database : { ...database, ok: false, code: reason ?? 'internal' };
}

function toUndo(records: UndoRecord[] | null, now: Date): StatusReport['undo'] {
  const age = ({ taken_at }: UndoRecord): number => secondsBetween(new Date(taken_at), now);
  const kept = records?.map((record) => ({ ...record, age_seconds: age(record) })) ?? null;
  const bytes = records?.reduce((sum, record) => sum + record.bytes, 0) ?? null;
  return { kept_most: limits.maxUndoRecords, bytes, kept };
}

function toStoredBackups(
  store: string,
  runs: StoredBackupsObservation | undefined,
): NonNullable<StatusReport['stored_backups']> {
  return {
    store,
    up: runs?.storeIsUp ?? null,
    fault: runs?.storeFault ?? null,
    next_slot_at: runs?.nextSlotAt ?? null,
    next_drill_at: runs?.nextDrillAt ?? null,
    last_success_at: runs?.lastSuccessAt ?? null,
    last_proven_at: runs?.lastProvenAt ?? null,
    last_restore_seconds: runs?.lastRestoreSeconds ?? null,
    last_bytes: runs?.lastBytes ?? null,
    faulty_backups: runs?.faultyBackups ?? null,
    last_failure: runs?.lastFailure ?? null,
    running: runs?.running ?? null,
  };
}

function readMemory({ bodies, answers }: MemoryBudgets): StatusReport['memory'] {
  const { rss, heapUsed, heapTotal, external } = process.memoryUsage();
  return {
    rss_bytes: rss,
    heap_used_bytes: heapUsed,
    heap_total_bytes: heapTotal,
    external_bytes: external,
    bodies_bytes: bodies.usedBytes(),
    bodies_max_bytes: limits.maxBodiesBytes,
    answers_bytes: answers.usedBytes(),
    answers_max_bytes: limits.maxAnswersBytes,
  };
}

function secondsBetween(earlier: Date, later: Date): number {
  return Math.max(0, Math.round((later.getTime() - earlier.getTime()) / 1000));
}
