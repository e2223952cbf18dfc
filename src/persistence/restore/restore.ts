import type { Readable } from 'node:stream';
import type { CheckedBackup } from '../../backup/check/frame.ts';
import { type CheckedRequest, checkRequest, readSource } from '../../backup/check/request.ts';
import type { Decoded } from '../../backup/format/decoder.ts';
import type { Caller } from '../../domain/actor.ts';
import type { RestoreReport } from '../../domain/backup.ts';
import { storeNotConfigured } from '../../domain/backup-run.ts';
import type { StateHead } from '../../domain/state.ts';
import type { RestoreContext } from '../../domain/store.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { Progress } from '../activity/operations.ts';
import type { Connection } from '../connection/connection.ts';
import type { Database } from '../connection/database.ts';
import { CURRENT_SCHEMA_VERSION, readInstanceId } from '../schema/schema.ts';
import { createEpoch } from '../state/identifiers.ts';
import { lockRestores } from '../state/restore-lock.ts';
import { readStateHead } from '../state/state-row.ts';
import { checkStage, firstUnlinked, type StagedBackup } from './check.ts';
import { NO_DOCUMENTS, planDocuments } from './documents.ts';
import { carryOut, openOperation } from './operation.ts';
import { describeRestore, type RestorePlan, reportRestore } from './restore-report.ts';
import { assertScratchIsFree, createScratch, digestState } from './scratch.ts';
import { planSelected, selectStaged } from './selection.ts';
import { stageBackup } from './stage.ts';
import { compareTrails, planTrail } from './trail.ts';

export interface RestoreRun extends RestoreContext {
  stateKey: string;
  progress: Progress;
}

interface StagedRestore {
  /** Stored key of the node's own state, or of the scratch state. */
  stateKey: string;
  requestId: string;
  caller: Caller;
  request: CheckedRequest;
  staged: StagedBackup;
}

/**
 * Restores the backup in `body`, a complete restore request, in one transaction. Rejects with the codes of the section
 * "Backup and restore" of the catalogue, and with those of the scanner.
 */
export async function restore(database: Database, body: Readable, run: RestoreRun): Promise<RestoreReport> {
  // While the restore waits for a connection, this is the only listener. The reader of the body receives the error too.
  body.on('error', () => undefined);
  const keepBody = destroyOnAbort(body, run.signal);
  try {
    return await openOperation(database, run, async (connection) => {
      const { request, staged } = await receive(connection, body, run);
      const instanceId = await readInstanceId(connection);
      const scratch = request.options.intoScratch;
      if (scratch === undefined) {
        const outcome = await carryOutRestore(connection, { ...run, request, staged });
        return reportRestore(outcome, request, { instanceId, live: outcome.plan.live, scratchSha256: null });
      }
      await connection.execute('savepoint scratch');
      const scratchKey = await createScratch(connection, scratch, run.stateKey);
      const outcome = await carryOutRestore(connection, { ...run, stateKey: scratchKey, request, staged });
      const scratchSha256 = outcome.entry === undefined ? null : await digestState(connection, scratchKey);
      if (outcome.entry === undefined) await connection.execute('rollback to savepoint scratch');
      const live = await readStateHead(connection, run.stateKey);
      return reportRestore(outcome, request, { instanceId, live, scratchSha256 });
    });
  } finally {
    keepBody();
  }
}

/** Destroys a stream when the client disconnects. Returns a function that leaves it alone from then on. */
function destroyOnAbort(stream: Readable, signal: AbortSignal): () => void {
  const abort = () => stream.destroy(new LoomError('client_gone', 'The client disconnected before the restore ended.'));
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  return () => signal.removeEventListener('abort', abort);
}

/** Opens the stored backup that a request names; undefined if the request has the backup itself. */
async function openSource(received: Decoded, { openStored, signal }: RestoreRun): Promise<Readable | undefined> {
  const name = readSource(received);
  if (name === undefined) return undefined;
  if (openStored === undefined) throw storeNotConfigured();
  const source = await openStored(name, signal);
  destroyOnAbort(source, signal);
  return source;
}

/** Stages the body as it arrives, then checks the request and the staged backup. */
async function receive(connection: Connection, body: Readable, run: RestoreRun) {
  const { stateKey, progress, memory } = run;
  progress.enter('receiving');
  const decoded = await stageBackup(connection, body, {
    progress,
    memory,
    onBegin: async (members) => {
      if (members.dry_run === true) progress.becomePlan();
      await lockTarget(connection, stateKey, members);
    },
    openSource: (received) => openSource(received, run),
  });
  if (decoded.request.dry_run === true) progress.becomePlan();
  progress.enter('checking');
  const request = checkRequest(decoded, { stateKey, schemaVersion: CURRENT_SCHEMA_VERSION });
  const staged = await checkStage(connection, request.backup, decoded.entries);
  await lockTarget(connection, stateKey, decoded.request);
  progress.enter(request.options.dryRun ? 'planning' : 'applying');
  return { request, staged };
}

/**
 * Locks the scratch state if the request has named one by now, otherwise the live state. A request that names its
 * scratch state first does not block restores of the live state, and fails early when the scratch state exists.
 */
async function lockTarget(
  connection: Connection,
  stateKey: string,
  { into_scratch: scratch }: Record<string, unknown>,
): Promise<void> {
  if (typeof scratch !== 'string') return lockRestores(connection, stateKey);
  await lockRestores(connection, scratch, 'scratch');
  await assertScratchIsFree(connection, scratch);
}

async function carryOutRestore(
  connection: Connection,
  { stateKey, requestId, caller, request, staged }: StagedRestore,
) {
  const { options } = request;
  // A restore of selected documents takes no entry of the backup, as if it had no audit trail.
  const isSelective = options.documents !== undefined;
  const backup = isSelective ? { ...request.backup, hasAudit: false } : request.backup;
  const { instanceId, stateKey: originKey } = backup.origin;
  const target = { stateKey, truncate: options.truncateAudit };
  const selection = options.documents && (await selectStaged(connection, options.documents));
  const compared = await compareTrails(connection, target, backup);
  const unlinked = backup.verified || isSelective ? undefined : await firstUnlinked(connection);
  const planState = (live: StateHead) =>
    selection === undefined ? planDocuments(connection, stateKey) : planSelected(connection, live, selection);
  return carryOut<RestorePlan>(connection, {
    action: 'restore',
    stateKey,
    requestId,
    caller,
    dryRun: options.dryRun,
    expectRevision: options.expectRevision,
    compared,
    importOrigin: { verified: backup.verified, instance_id: instanceId, state_key: originKey },
    keepsUndoRecord: options.intoScratch === undefined,
    plan: async (live) => {
      const replaceState = options.replaceState && backup.hasState;
      return {
        live,
        documents: replaceState ? await planState(live) : NO_DOCUMENTS,
        trail: await planTrail(connection, target, live.head, backup, compared),
        replaceState,
        revision: Math.max(live.revision, isSelective ? 0 : restoredRevision(backup)) + 1,
        epoch: replaceState ? createEpoch() : live.epoch,
        unlinked,
      };
    },
    describe: (plan, replacedRestores) => describeRestore(plan, request, staged, replacedRestores),
  });
}

/** Returns the revision that a restored state continues from. */
function restoredRevision({ origin }: CheckedBackup): number {
  return Math.min(origin.revision ?? 0, limits.maxRestoredRevision);
}
