import type { Readable } from 'node:stream';
import type { Pool, PoolClient } from 'pg';
import { type CheckedRequest, checkRequest } from '../../backup/check/request.ts';
import type { AuditHead } from '../../domain/audit.ts';
import type { RestoreReport } from '../../domain/backup.ts';
import type { OperationContext, RunningOperation } from '../../domain/store.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { cutConnection } from '../connection/copy.ts';
import { inTransaction } from '../connection/transaction.ts';
import { CURRENT_SCHEMA_VERSION } from '../schema/schema.ts';
import { createEpoch, createEventId } from '../state/ids.ts';
import { assertRevision, assertSchemaServes, planAtOneRevision } from '../state/live.ts';
import { checkStage, firstUnlinked, type StagedBackup } from './check.ts';
import { applyDocuments, NO_DOCUMENTS, planDocuments } from './documents.ts';
import { adoptEntries, importEntries, readTruncations, removeEntries } from './entries.ts';
import { appendOperationEntry } from './entry.ts';
import { lockRestores } from './lock.ts';
import { type RestorePlan, reportOf, restoreDetail } from './report.ts';
import { assertScratchIsFree, createScratch, digestState } from './scratch.ts';
import { stageBackup } from './stage.ts';
import { compareTrails, planTrail } from './trail.ts';
import { keepDocuments, keepEntries, sealUndoRecord } from './undo-record.ts';

export interface RestoreTarget {
  stateKey: string;
  /** Counted up while the body arrives. */
  progress: RunningOperation;
}

/**
 * Restores the backup in `body`, which is a whole restore request, in one transaction on one connection: decode and stage,
 * check everything, lock the state row, keep what is replaced, apply, commit. Until that commit nobody sees anything of it, and
 * whatever fails leaves the database exactly as it was. Rejects with the codes of the section "Backup and restore" of the
 * catalogue, and with those of the scanner.
 */
export async function restore(
  pool: Pool,
  body: Readable,
  { stateKey, progress }: RestoreTarget,
  { requestId, signal }: OperationContext,
): Promise<RestoreReport> {
  // While it waits for a connection nobody reads it; whoever reads it is told as well.
  body.on('error', () => undefined);
  return inTransaction(pool, 'write', async (client) => {
    const cut = () => {
      cutConnection(client);
      body.destroy(givenUp());
    };
    signal.addEventListener('abort', cut, { once: true });
    try {
      if (signal.aborted) throw givenUp();
      await assertSchemaServes(client);
      const lock = createTargetLock(client, stateKey);
      const decoded = await stageBackup(client, body, {
        progress,
        onBegin: (request) => {
          if (request.dry_run === true) progress.kind = 'plan';
          return lock(request);
        },
      });
      if (decoded.request.dry_run === true) progress.kind = 'plan';
      const request = checkRequest(decoded, { stateKey, schemaVersion: CURRENT_SCHEMA_VERSION });
      const staged = await checkStage(client, request.backup);
      await lock(decoded.request);
      const scratch = request.options.intoScratch;
      if (scratch === undefined) return await restoreStaged(client, stateKey, request, staged, requestId);
      await client.query('savepoint scratch');
      await createScratch(client, scratch, stateKey);
      const report = await restoreStaged(client, scratch, request, staged, requestId);
      if (report.dry_run) await client.query('rollback to savepoint scratch');
      return report;
    } finally {
      signal.removeEventListener('abort', cut);
    }
  });
}

/**
 * Locks what a request restores, as far as it has said so by then: the scratch state that it names, and otherwise the living one. Who says
 * at once that it is a scratch state does not keep restores of the living one waiting, and hears at once when it exists.
 */
function createTargetLock(client: PoolClient, stateKey: string) {
  const locked = new Set<string>();
  return async ({ into_scratch: scratch }: Record<string, unknown>): Promise<void> => {
    const [key, kind] = typeof scratch === 'string' ? ([scratch, 'scratch'] as const) : ([stateKey, 'state'] as const);
    if (locked.has(kind)) return;
    await lockRestores(client, key, kind);
    locked.add(kind);
    if (kind === 'scratch') await assertScratchIsFree(client, key);
  };
}

function givenUp(): LoomError {
  return new LoomError('client_gone', 'The client went away before the restore was done.');
}

async function restoreStaged(
  client: PoolClient,
  stateKey: string,
  request: CheckedRequest,
  staged: StagedBackup,
  requestId: string,
): Promise<RestoreReport> {
  const { options, backup } = request;
  const compared = await compareTrails(client, stateKey, backup);
  const unlinked = backup.verified ? undefined : await firstUnlinked(client);
  const replaceState = options.replaceState && backup.hasState;
  // A dry run reads without making anyone wait; otherwise commits of others wait from here on.
  const plan = await planAtOneRevision(client, { stateKey, dryRun: options.dryRun }, async (live) => {
    // The body may have taken hours to arrive, and somebody may have migrated meanwhile.
    await assertSchemaServes(client);
    assertRevision(live, options.expectRevision);
    return {
      live,
      documents: replaceState ? await planDocuments(client, stateKey) : NO_DOCUMENTS,
      trail: await planTrail(client, { stateKey, truncate: options.truncateAudit }, live.head, backup, compared),
      replaceState,
      revision: Math.max(live.revision, Math.min(backup.origin.revision, limits.maxRestoredRevision)) + 1,
      epoch: replaceState ? createEpoch() : live.epoch,
      unlinked,
    };
  });
  const report = reportOf(plan, request);
  return options.dryRun ? report : apply(client, stateKey, plan, { request, staged, report, requestId });
}

interface Deed {
  request: CheckedRequest;
  staged: StagedBackup;
  report: RestoreReport;
  requestId: string;
}

async function apply(
  client: PoolClient,
  stateKey: string,
  plan: RestorePlan,
  { request, staged, report, requestId }: Deed,
): Promise<RestoreReport> {
  const { live, revision, epoch } = plan;
  const isScratch = request.options.intoScratch !== undefined;
  if (!isScratch) await keepReplaced(client, stateKey, plan);
  const replacedRestores = plan.trail.replace > 0 ? await readTruncations(client, stateKey, plan.trail.base.seq) : [];
  if (plan.replaceState) await applyDocuments(client, stateKey, revision);
  const linkTo = await applyTrail(client, stateKey, plan, request, requestId);
  const eventId = createEventId();
  const { head, recordedAt } = await appendOperationEntry(client, {
    action: 'restore',
    stateKey,
    linkTo,
    eventId,
    revision,
    epoch,
    requestId,
    detail: { ...restoreDetail(plan, request, staged), replaced_restores: replacedRestores },
  });
  const done = { ...report, restored_at: recordedAt, event_id: eventId, audit: { ...report.audit, head } };
  if (isScratch) {
    const stateSha256 = await digestState(client, stateKey);
    return { ...done, scratch: { state_key: stateKey, state_sha256: stateSha256, audit_head: head } };
  }
  await sealUndoRecord(client, stateKey, {
    event_id: eventId,
    kind: 'restore',
    taken_at: recordedAt,
    revision,
    previous_revision: live.revision,
    replaced_state: plan.replaceState,
  });
  return done;
}

async function keepReplaced(client: PoolClient, stateKey: string, plan: RestorePlan): Promise<void> {
  if (plan.replaceState) await keepDocuments(client, stateKey, plan.revision);
  if (plan.trail.replace > 0) await keepEntries(client, stateKey, plan.revision, plan.trail.base.seq);
}

/** Answers the head that the restore's own entry is to be linked to. */
async function applyTrail(
  client: PoolClient,
  stateKey: string,
  { trail, live, revision, epoch }: RestorePlan,
  { backup: { verified, origin } }: CheckedRequest,
  requestId: string,
): Promise<AuditHead> {
  if (trail.replace > 0) await removeEntries(client, stateKey, trail.base.seq);
  if (trail.adopt > 0) await adoptEntries(client, stateKey, live.head);
  if (trail.import === 0) return trail.base;
  return importEntries(client, {
    stateKey,
    after: trail.base,
    revision,
    epoch,
    requestId,
    origin: { verified, instance_id: origin.instanceId, state_key: origin.stateKey },
  });
}
