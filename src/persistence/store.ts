// persistence/ is the store. This file binds the verbs of its rooms to one database and one state key. It imports
// domain and the rooms of persistence. All SQL is in these rooms. No room of persistence may import http or cli.

import type { MemoryBudget } from '../domain/memory.ts';
import type { CommitFailures, Store } from '../domain/store.ts';
import { createChainChecks } from './activity/chain-checks.ts';
import type { Operations } from './activity/operations.ts';
import { readHistory } from './audit/history.ts';
import { openAudit, readAudit } from './audit/read.ts';
import { verifyAudit } from './audit/verify.ts';
import { openBackup } from './backup/backup.ts';
import { createCommitBatch } from './commit/batch.ts';
import { createCommitFailures } from './commit/commit-failures.ts';
import { createGroupCommit, type GroupCommitOptions } from './commit/group-commit.ts';
import { createSeenRevision, type StateRevision } from './commit/seen-revision.ts';
import type { Database } from './connection/database.ts';
import { createDocumentReader } from './read/document.ts';
import { listDocuments, openState } from './read/documents.ts';
import { restore } from './restore/restore.ts';
import { dropScratch } from './restore/scratch.ts';
import { undo } from './restore/undo/undo.ts';
import type { Migration } from './schema/migrations.ts';
import { readSchemaStatus } from './schema/schema.ts';
import { createEventId } from './state/identifiers.ts';
import { readLocks } from './state/restore-lock.ts';
import { listScratchStates } from './state/scratch-states.ts';
import { readSizes } from './state/sizes.ts';
import { observeStateHead, readStateHead } from './state/state-row.ts';
import { readUndoRecords } from './state/undo-digest.ts';

export interface StoreOptions {
  database: Database;
  stateKey: string;
  maxDocumentBytes: number;
  migrations: Migration[];
  operations: Operations;
  onBatch?: GroupCommitOptions['onBatch'];
  /** The memory of all answers of the node, which also bounds the streams of the store. */
  memory?: MemoryBudget;
}

export interface StoreHandle extends Store {
  /** Answers all accepted commits, and sends none afterwards. */
  abandonCommits(): Promise<void>;
  /** Refuses new commits, and resolves when all accepted commits are answered. The database stays open. */
  close(): Promise<void>;
  /** Returns the commits that the server failed, for the probe. */
  commitFailures(): CommitFailures;
}

/** Creates the store for one state key of one database. */
export function createStore(options: StoreOptions): StoreHandle {
  const { database, stateKey, maxDocumentBytes, migrations, operations, onBatch, memory } = options;
  const chainChecks = createChainChecks();
  const commitFailures = createCommitFailures();
  const seen = createSeenRevision();
  const note = <Found extends StateRevision | undefined>(found: Found): Found => {
    if (found !== undefined) seen.note(found);
    return found;
  };
  const readDocument = createDocumentReader(database, stateKey);
  const beforeSend = () => groupCommit.beforeSend();
  const commitBatch = createCommitBatch(database, { stateKey, maxDocumentBytes, seen, beforeSend });
  const groupCommit = createGroupCommit({
    commitBatch: (commits, bounds) => commitFailures.count(commitBatch(commits, bounds)),
    createEventId,
    onBatch,
  });

  return {
    submitCommit: groupCommit.submit,
    readHead: async () => note(await readStateHead(database, stateKey)),
    observeHead: async () => note(await observeStateHead(database, stateKey)),
    readDocument: async (name, admit) => note(await readDocument(name, admit)),
    listDocuments: async (query) => note(await listDocuments(database, stateKey, query)),
    readHistory: (name, query) => readHistory(database, stateKey, name, query),
    openState: async (signal) => note(await openState(database, stateKey, { memory, signal })),
    readAudit: (query, admit) => readAudit(database, stateKey, query, admit),
    openAudit: (query, signal) => openAudit(database, stateKey, query, { memory, signal }),
    verifyAudit: (context, scratch) =>
      operations.track('verify', context.requestId, () =>
        verifyAudit({ database, stateKey, chainChecks, ...context }, scratch),
      ),
    openBackup: (backup, context) =>
      openBackup({ database, stateKey, operations, chainChecks, memory }, backup, context),
    restore: (body, context) =>
      operations.track('restore', context.requestId, (progress) =>
        restore(database, body, { ...context, stateKey, progress }),
      ),
    undo: (request, context) =>
      operations.track(request.dryRun ? 'plan' : 'undo', context.requestId, () =>
        undo(database, request, { stateKey, ...context }),
      ),
    readUndoRecords: () => readUndoRecords(database, stateKey),
    readLocks: () => readLocks(database, stateKey),
    readScratchStates: () => listScratchStates(database, stateKey),
    dropScratch: (scratch) => dropScratch(database, scratch, stateKey),
    readSchema: () => readSchemaStatus(database, migrations),
    readDatabase: async () => {
      const startedMs = performance.now();
      const row = await database.firstRow<{ server_version: string }>('show server_version');
      return { version: row?.server_version ?? '', latencyMs: performance.now() - startedMs };
    },
    readSizes: () => readSizes(database, stateKey),
    observe: () => ({
      queueDepth: groupCommit.depth(),
      pool: database.usage(),
      operations: operations.running(),
      lastChainCheck: chainChecks.last(),
    }),
    abandonCommits: () => groupCommit.abandon(),
    close: () => groupCommit.close(),
    commitFailures: commitFailures.read,
  };
}
