import type { Pool } from 'pg';
import type { ChainCheckRecord, OperationContext, RunningOperation, Store } from '../domain/store.ts';
import { openAudit, readAudit, verifyChain } from './audit/audit.ts';
import { openExport, recordBackup } from './backup/export.ts';
import { commitBatch } from './commit/batch.ts';
import { createGroupCommit } from './commit/group-commit.ts';
import { toLoomError } from './connection/faults.ts';
import { queryRows } from './connection/query.ts';
import { inTransaction } from './connection/transaction.ts';
import { listDocuments, openState, readDocument, readStateHead } from './read/state.ts';
import { restore } from './restore/restore.ts';
import { assertScratch, dropScratch, listScratchStates } from './restore/scratch.ts';
import { undo } from './restore/undo.ts';
import { readUndoRecords } from './restore/undo-record.ts';
import type { Migration } from './schema/migrations.ts';
import { readSchemaStatus } from './schema/schema.ts';
import { createEventId } from './state/ids.ts';

export interface StoreOptions {
  pool: Pool;
  stateKey: string;
  maxDocumentBytes: number;
  poolMax: number;
  migrations: Migration[];
  onBatch?(batch: { commits: number; durationMs: number }): void;
  /** Told when a backup or restore has ended; `error` is undefined when it went well. */
  onOperation?(operation: RunningOperation, error: unknown): void;
}

export interface StoreHandle extends Store {
  /** Refuses new commits and answers the accepted ones; the pool stays open. */
  close(): Promise<void>;
}

/** Everything that the HTTP side asks of PostgreSQL, bound to one pool and one state key. */
export function createStore(options: StoreOptions): StoreHandle {
  const { pool, stateKey, maxDocumentBytes, migrations } = options;
  const operations = new Set<RunningOperation>();
  let lastChainCheck: ChainCheckRecord | null = null;
  const groupCommit = createGroupCommit({
    commitBatch: (commits) => commitBatch(pool, commits, { stateKey, maxDocumentBytes }),
    createEventId,
    ...(options.onBatch === undefined ? {} : { onBatch: options.onBatch }),
  });

  function begin(kind: RunningOperation['kind'], context: OperationContext): RunningOperation {
    const operation: RunningOperation = {
      kind,
      started_at: new Date().toISOString(),
      request_id: context.requestId,
      documents: 0,
      audit_entries: 0,
      bytes: 0,
    };
    operations.add(operation);
    return operation;
  }

  function finish(operation: RunningOperation, error: unknown): void {
    if (!operations.delete(operation)) return;
    options.onOperation?.(operation, error);
  }

  function recordChainCheck(check: Omit<ChainCheckRecord, 'checked_at'>): void {
    if (check.ok && check.from_seq > 1 && lastChainCheck?.ok === false) return;
    lastChainCheck = { ...check, checked_at: new Date().toISOString() };
  }

  async function track<T>(operation: RunningOperation, run: () => Promise<T>): Promise<T> {
    try {
      const result = await run();
      finish(operation, undefined);
      return result;
    } catch (error) {
      const known = toLoomError(error);
      finish(operation, known);
      throw known;
    }
  }

  return {
    submitCommit: groupCommit.submit,
    readHead: () => readStateHead(pool, stateKey),
    readDocument: (name) => readDocument(pool, stateKey, name),
    listDocuments: (query) => listDocuments(pool, stateKey, query),
    openState: () => openState(pool, stateKey),
    readAudit: (query) => readAudit(pool, stateKey, query),
    openAudit: (query) => openAudit(pool, stateKey, query),
    verifyAudit: (context, scratch) =>
      track(begin('verify', context), async () => {
        const verdict = await inTransaction(pool, 'snapshot', async (client) => {
          if (scratch !== undefined) await assertScratch(client, scratch, stateKey);
          return verifyChain(client, scratch ?? stateKey);
        });
        if (scratch === undefined) {
          const firstBadSeq = verdict.ok ? null : verdict.first_bad_seq;
          recordChainCheck({
            ok: verdict.ok,
            by: 'verify',
            from_seq: 1,
            to_seq: verdict.head.seq,
            first_bad_seq: firstBadSeq,
          });
        }
        return verdict;
      }),
    openBackup: async (backup, context) => {
      const progress = begin('backup', context);
      let isBroken = false;
      try {
        const body = await openExport(
          pool,
          {
            ...backup,
            stateKey,
            progress,
            onClose: (error) => finish(progress, error),
            onChainVerdict: ({ ok, firstBadSeq, fromSeq, toSeq }) => {
              isBroken = !ok;
              recordChainCheck({ ok, by: 'backup', from_seq: fromSeq, to_seq: toSeq, first_bad_seq: firstBadSeq });
            },
          },
          context,
        );
        return { body, recordTaken: async () => (isBroken ? undefined : recordBackup(pool, stateKey)) };
      } catch (error) {
        finish(progress, error);
        throw toLoomError(error);
      }
    },
    restore: (body, context) => {
      const progress = begin('restore', context);
      return track(progress, () => restore(pool, body, { stateKey, progress }, context));
    },
    undo: (request, context) =>
      track(begin(request.dryRun ? 'plan' : 'undo', context), () => undo(pool, stateKey, request, context)),
    readUndoRecords: () => readUndoRecords(pool, stateKey),
    readScratchStates: () => listScratchStates(pool, stateKey),
    dropScratch: (scratch) => dropScratch(pool, scratch, stateKey),
    readSchema: () => readSchemaStatus(pool, migrations),
    readDatabase: async () => {
      const startedMs = performance.now();
      const rows = await queryRows<{ server_version: string }>(pool, 'show server_version');
      return { version: rows[0]?.server_version ?? '', latencyMs: performance.now() - startedMs };
    },
    observe: () => ({
      queueDepth: groupCommit.depth(),
      pool: { total: pool.totalCount, idle: pool.idleCount, waiting: pool.waitingCount, max: options.poolMax },
      operations: [...operations],
      lastChainCheck,
    }),
    close: () => groupCommit.close(),
  };
}
