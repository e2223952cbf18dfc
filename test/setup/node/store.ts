import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import pg from 'pg';
import type { BackupOptions, RestoreReport } from '../../../src/domain/backup.ts';
import type { CommitReceipt, CommitRequest } from '../../../src/domain/commit.ts';
import type { UndoOptions } from '../../../src/domain/request.ts';
import type { UndoReport } from '../../../src/domain/undo.ts';
import { limits } from '../../../src/limits.ts';
import { createLogger, type Log } from '../../../src/log.ts';
import { createOperations } from '../../../src/persistence/activity/operations.ts';
import { type Database, openDatabase } from '../../../src/persistence/connection/database.ts';
import { loadMigrations } from '../../../src/persistence/schema/migrations.ts';
import { ensureState } from '../../../src/persistence/state/state-row.ts';
import { createStore, type StoreHandle } from '../../../src/persistence/store.ts';
import { openDoor } from '../server/door.ts';
import { describeRefusals } from './described-store.ts';

export interface TestStore {
  store: StoreHandle;
  /** The node's own connections. */
  database: Database;
  /** Connections of the test to the same database. */
  pool: pg.Pool;
  stateKey: string;
  put(name: string, value: unknown): Promise<CommitReceipt>;
  commit(request: Partial<CommitRequest> & Pick<CommitRequest, 'changes'>): Promise<CommitReceipt>;
  /** Returns all documents as one object. */
  state(): Promise<Record<string, unknown>>;
  backup(options?: Partial<BackupOptions>): Promise<string>;
  /** Takes a backup, and records it as the last one, as the node does after the last byte. */
  takeBackup(options?: Partial<BackupOptions>): Promise<string>;
  /** Restores the text of a backup. The default options are those of the runbook. */
  restore(backup: string, options?: Record<string, unknown>): Promise<RestoreReport>;
  /** Undoes the last restore by default. */
  undo(options?: Partial<UndoOptions>): Promise<UndoReport>;
  /** Restores a whole request body. */
  restoreBody(body: string | Buffer | Readable): Promise<RestoreReport>;
  close(): Promise<void>;
}

export interface TestStoreOptions {
  stateKey?: string;
  poolMax?: number;
  maxDocumentBytes?: number;
  log?: Log;
  /** The code of the node; this one by default. */
  code?: StoreCode;
}

/** The functions that make a node's store. */
export interface StoreCode {
  createLogger: typeof createLogger;
  createOperations: typeof createOperations;
  createStore: typeof createStore;
  ensureState: typeof ensureState;
  openDatabase: typeof openDatabase;
}

const thisCode: StoreCode = { createLogger, createOperations, createStore, ensureState, openDatabase };

const numbersForInt8 = new pg.TypeOverrides();
numbersForInt8.setTypeParser(pg.types.builtins.INT8, Number);

/** Opens the store of one node on a database, without HTTP. */
export async function openTestStore(url: string, options: TestStoreOptions = {}): Promise<TestStore> {
  const { stateKey = 'default', poolMax = 5, maxDocumentBytes = limits.maxDocumentBytes, code = thisCode } = options;
  const database = openDoor(url, poolMax, options.log ?? code.createLogger({ level: 'silent' }), code.openDatabase);
  const pool = new pg.Pool({ connectionString: url, max: 3, types: numbersForInt8 });
  pool.on('error', () => undefined);
  await code.ensureState(database, stateKey);
  const store = describeRefusals(
    code.createStore({
      database,
      stateKey,
      maxDocumentBytes,
      migrations: await loadMigrations(),
      operations: code.createOperations(),
    }),
  );
  const context = () => ({
    requestId: 'test',
    caller: { actor: 'admin' as const },
    signal: new AbortController().signal,
  });
  const commit: TestStore['commit'] = (request) =>
    store.submitCommit({ action: 'document.put', actor: 'client', requestId: 'test', ...request });
  const restoreBody: TestStore['restoreBody'] = (body) =>
    store.restore(body instanceof Readable ? body : Readable.from([Buffer.from(body)]), context());
  return {
    store,
    database,
    pool,
    stateKey,
    commit,
    put: (name, value) => commit({ changes: [{ op: 'put', name, json: JSON.stringify(value) }] }),
    state: async () => JSON.parse(await text((await store.openState()).body)) as Record<string, unknown>,
    takeBackup: async (backup) => {
      const { body, recordTaken } = await store.openBackup({ includeAudit: true, ...backup }, context());
      const whole = await text(body);
      await recordTaken();
      return whole;
    },
    backup: async (backup) => text((await store.openBackup({ includeAudit: true, ...backup }, context())).body),
    restoreBody,
    undo: (request) => store.undo({ dryRun: false, ...request }, context()),
    restore: (backup, given = {}) => {
      const members = JSON.stringify({ confirm: 'restore', replace_state: true, truncate_audit: false, ...given });
      return restoreBody(`${members.slice(0, -1)},"backup":${backup}}`);
    },
    close: async () => {
      await store.close();
      await database.close({ deadlineMs: 5_000 });
      await pool.end();
    },
  };
}

/** Verifies the chain with LOOM itself. */
export async function verify(testStore: TestStore) {
  return testStore.store.verifyAudit({ requestId: 'test', signal: new AbortController().signal });
}
