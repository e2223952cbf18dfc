// persistence/restore/ restores backups and undoes restores. This file has the steps that both share, in their order:
//
//   open → lock → stage → [ check the revision → plan ] → keep what is replaced → apply → append the entries → seal
//
// restore.ts and undo.ts stage, plan and report. No step changes its input. The room imports backup, domain, errors,
// limits and, of persistence, activity/, connection/, schema/ and state/. It must not know commit/.

import type { Caller } from '../../domain/actor.ts';
import type { AuditHead } from '../../domain/audit.ts';
import type { StateHead } from '../../domain/state.ts';
import type { OperationContext } from '../../domain/store.ts';
import { LoomError } from '../../errors.ts';
import type { Connection } from '../connection/connection.ts';
import type { Database } from '../connection/database.ts';
import { boundTransaction, detectLostNode } from '../connection/session-bounds.ts';
import { assertSchemaServes } from '../schema/serves.ts';
import { createEventId } from '../state/identifiers.ts';
import { isLineageChanged, lockState, readStateHead, startEpochIfLost } from '../state/state-row.ts';
import { digestReplaced, type NamedUndoRecord, readNamedRecords, readUndoRecords } from '../state/undo-digest.ts';
import { applyDocuments, type DocumentsPlan } from './documents.ts';
import {
  adoptEntries,
  type ImportOrigin,
  importEntries,
  keepIndex,
  readTruncations,
  removeEntries,
} from './entries.ts';
import { refreshLastChanges, stageLastChanges } from './last-changes.ts';
import { type AppendedEntry, advanceState, appendOperationEntry } from './operation-entry.ts';
import { appendRecordedChanges, stageRecordedChanges } from './recorded-changes.ts';
import type { TrailComparison, TrailPlan } from './trail.ts';
import { keepDocuments, keepEntries, sealUndoRecord } from './undo/undo-record.ts';

/** Describes what a restore or undo changes, at one revision of the live state. */
export interface OperationPlan {
  live: StateHead;
  documents: DocumentsPlan;
  trail: TrailPlan;
  replaceState: boolean;
  revision: number;
  epoch: string;
}

/** Describes a restore or undo whose documents and entries are staged. */
export interface StagedOperation<Plan extends OperationPlan> {
  action: 'restore' | 'undo';
  stateKey: string;
  requestId: string;
  caller: Caller;
  dryRun: boolean;
  expectRevision: number | undefined;
  compared: Pick<TrailComparison, 'comparedTo' | 'keptTo'>;
  /** Origin that each imported entry records. */
  importOrigin: ImportOrigin;
  /** False for a scratch state, which has no earlier content. */
  keepsUndoRecord: boolean;
  plan(live: StateHead): Promise<Plan>;
  /** Describes the operation in its own audit entry. */
  describe(plan: Plan, replacedRestores: unknown[]): Record<string, unknown>;
}

/**
 * Holds the plan of an operation, and its own entry with the head of the trail after the operation; a dry run appends
 * none.
 */
export interface OperationOutcome<Plan extends OperationPlan> {
  plan: Plan;
  entry: AppendedEntry | undefined;
}

/**
 * Opens the transaction of a restore or undo. Any failure rolls everything back. Rejects with `schema_ahead` if the
 * schema does not serve this node, and with `client_gone` when `signal` aborts.
 */
export function openOperation<T>(
  database: Database,
  { signal, isPatient }: Pick<OperationContext, 'signal' | 'isPatient'>,
  run: (connection: Connection) => Promise<T>,
): Promise<T> {
  const checkAndRun = async (connection: Connection): Promise<T> => {
    await boundTransaction(connection);
    await detectLostNode(connection);
    await assertSchemaServes(connection);
    return run(connection);
  };
  return database.transaction('write', checkAndRun, { signal, isPatient });
}

/** Plans the operation, and carries it out unless it is a dry run. Commits wait while the state row is locked. */
export async function carryOut<Plan extends OperationPlan>(
  connection: Connection,
  operation: StagedOperation<Plan>,
): Promise<OperationOutcome<Plan>> {
  const { stateKey } = operation;
  if (!operation.dryRun) await stageLastChanges(connection, stateKey, operation.compared.keptTo);
  const plan = await planAtOneRevision(connection, operation);
  if (operation.dryRun) return { plan, entry: undefined };
  const eventId = createEventId();
  const undoRecords = operation.keepsUndoRecord ? await keepReplaced(connection, operation, plan, eventId) : undefined;
  const { revision, trail } = plan;
  const replacedRestores = trail.replace > 0 ? await readTruncations(connection, stateKey, trail.base.seq) : [];
  const linkTo = await applyTrail(connection, operation, plan);
  if (plan.replaceState) await applyDocuments(connection, stateKey, revision);
  const detail = { ...operation.describe(plan, replacedRestores), undo_records: undoRecords };
  const entry = await appendEntries(connection, operation, plan, { linkTo, eventId, detail });
  if (operation.keepsUndoRecord) {
    await sealUndoRecord(connection, stateKey, {
      event_id: entry.eventId,
      kind: operation.action,
      taken_at: entry.recordedAt,
      revision,
      previous_revision: plan.live.revision,
      replaced_state: plan.replaceState,
    });
  }
  return { plan, entry };
}

/** Attempts to plan without a lock before a dry run locks the state after all. */
const PLAN_ATTEMPTS = 3;

/**
 * Plans at one revision of the live state. An operation that is carried out locks the state row first. A dry run plans
 * without a lock, and again after a commit. If the state keeps changing, the last attempt locks it. On another copy of
 * the database, a dry run also locks, and starts the new epoch for the plan only: the operation will be based on it.
 */
async function planAtOneRevision<Plan extends OperationPlan>(
  connection: Connection,
  { stateKey, requestId, dryRun, expectRevision, plan }: StagedOperation<Plan>,
): Promise<Plan> {
  const plansUnlocked = dryRun && !(await isLineageChanged(connection, stateKey));
  for (let attempt = plansUnlocked ? 1 : PLAN_ATTEMPTS; ; attempt += 1) {
    const locks = attempt >= PLAN_ATTEMPTS;
    if (locks && dryRun) await connection.execute('savepoint plan');
    let live = await (locks ? lockState(connection, stateKey) : readStateHead(connection, stateKey));
    if (locks && (await startEpochIfLost(connection, stateKey, requestId)))
      live = await lockState(connection, stateKey);
    // The body may have taken hours to arrive, and another node may have migrated meanwhile.
    await assertSchemaServes(connection);
    assertRevision(live, expectRevision);
    const planned = await plan(live);
    if (locks && dryRun) await connection.execute('rollback to savepoint plan');
    if (locks) return planned;
    const after = await readStateHead(connection, stateKey);
    if (after.revision === live.revision && after.head.hash === live.head.hash) return planned;
  }
}

function assertRevision(live: StateHead, expected: number | undefined): void {
  if (expected === undefined || expected === live.revision) return;
  throw new LoomError(
    'revision_mismatch',
    `The live revision is ${live.revision}, and "expect_revision" is ${expected}. Make a new plan, and use its revision.`,
    { pointer: '/expect_revision' },
  );
}

/**
 * Keeps what the operation is about to replace. Returns the digests that its audit entry names: of this undo record,
 * and of the older ones. So the newest entry names all records, whichever entries a restore removes.
 */
async function keepReplaced(
  connection: Connection,
  { action, stateKey }: StagedOperation<OperationPlan>,
  { live, revision, replaceState, trail }: OperationPlan,
  eventId: string,
): Promise<NamedUndoRecord[]> {
  const entriesAfter = trail.replace > 0 ? trail.base.seq : undefined;
  if (replaceState) await keepDocuments(connection, stateKey, revision);
  if (entriesAfter !== undefined) await keepEntries(connection, stateKey, revision, entriesAfter);
  const record = {
    event_id: eventId,
    kind: action,
    revision,
    previous_revision: live.revision,
    replaced_state: replaceState,
  };
  const sha256 = await digestReplaced(connection, stateKey, record, { documents: replaceState, entriesAfter });
  const older = await readNamedRecords(connection, stateKey, await readUndoRecords(connection, stateKey));
  return [{ event_id: eventId, sha256 }, ...older];
}

/**
 * Removes, adopts or imports entries, and returns the head that the operation's own entry is linked to. Brings what
 * `stageLastChanges` staged before the lock up to the entries that stay.
 */
async function applyTrail(
  connection: Connection,
  { stateKey, requestId, caller, importOrigin, compared }: StagedOperation<OperationPlan>,
  { trail, live, revision, epoch }: OperationPlan,
): Promise<AuditHead> {
  const { base } = trail;
  await keepIndex(connection);
  const isStaged = trail.adopt === 0 && compared.keptTo === Math.min(base.seq, compared.comparedTo);
  if (isStaged) await refreshLastChanges(connection, stateKey, { after: compared.comparedTo, upTo: base.seq });
  if (trail.replace > 0) await removeEntries(connection, stateKey, base.seq);
  if (trail.adopt > 0) await adoptEntries(connection, stateKey, live.head);
  if (!isStaged) await stageLastChanges(connection, stateKey, base.seq);
  if (trail.import === 0) return base;
  const common = { stateKey, revision, epoch, requestId, caller: toMembers(caller) };
  return importEntries(connection, { ...common, after: base, origin: importOrigin });
}

/** Returns the members of an entry that name who requested it, as JSON. */
function toMembers({ actor, actorName }: Caller): string {
  return JSON.stringify({ actor, actor_name: actorName });
}

/**
 * Appends the operation's own entry and, after it, the changes of documents that the trail does not have yet. Then
 * moves the state row to the last entry.
 */
async function appendEntries(
  connection: Connection,
  { action, stateKey, requestId, caller }: StagedOperation<OperationPlan>,
  { revision, epoch }: OperationPlan,
  { linkTo, eventId, detail }: { linkTo: AuditHead; eventId: string; detail: Record<string, unknown> },
): Promise<AppendedEntry> {
  const recorded = await stageRecordedChanges(connection, stateKey);
  const entry = {
    action,
    stateKey,
    linkTo,
    eventId,
    revision,
    epoch,
    requestId,
    caller: toMembers(caller),
    detail: { ...detail, recorded_changes: recorded },
  };
  const own = await appendOperationEntry(connection, entry);
  const appended = { ...own, head: await appendRecordedChanges(connection, entry, own) };
  await advanceState(connection, entry, appended);
  return appended;
}
