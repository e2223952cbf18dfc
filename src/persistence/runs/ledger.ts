// persistence/runs/ records the runs that take and prove stored backups (`loom_backup_run`), and is the catalogue of
// the backups. Each verb is one short statement, so the database alone decides between nodes. The room imports domain,
// errors, limits and, of persistence, connection/ and schema/. It must not know backups, restores or the store.

import type { RunLedger } from '../../domain/backup-run.ts';
import { limits } from '../../limits.ts';
import type { Database } from '../connection/database.ts';
import { listBackups, nextToProve, readBackup, readNewestComplete } from './catalogue.ts';
import { claimNow, claimRetry, claimSlot } from './claims.ts';
import { beginDeletion, cancelDeletion, noteFault, recordDeleted, recordNeverWritten } from './deletions.ts';
import { recordFailed, recordProven, recordVerified } from './endings.ts';
import { observeRuns } from './observe.ts';
import { pruneRuns } from './prune.ts';
import { nameBackup, recordWritten, release, renew, unnameBackup } from './running.ts';
import { listRuns, readClock, readRun } from './runs.ts';
import type { RunScope } from './scope.ts';
import { noteSharedStore, readStoreClaim, recordClaimPlaced, replaceClaim, settleClaim } from './store-claims.ts';

export interface RunLedgerOptions {
  stateKey: string;
  /** Names this node: host and process. No two nodes have the same name, and a node that starts again has another. */
  node: string;
  /** By default `limits.backupLeaseMs`. Tests take less. */
  leaseMs?: number;
  /** By default `limits.minRetryBackoffMs`. */
  backoffMs?: number;
  /** By default `limits.minRestartClaimMs` and `limits.minCopyClaimMs`. */
  claimTiming?: { restartMs: number; copyMs: number } | undefined;
}

/** Creates the ledger of one state for one node. */
export function createRunLedger(database: Database, options: RunLedgerOptions): RunLedger {
  const { stateKey, node, leaseMs = limits.backupLeaseMs, backoffMs = limits.minRetryBackoffMs } = options;
  const scope: RunScope = { database, stateKey, node, leaseMs, backoffMs };

  /** Prunes after the end of a run. A failure is no fault of the run, and the next end prunes again. */
  async function prune(hasEnded: boolean): Promise<boolean> {
    if (hasEnded) await pruneRuns(scope).catch(() => undefined);
    return hasEnded;
  }

  return {
    readClock: () => readClock(scope),
    claimSlot: (kind, slot, name) => claimSlot(scope, kind, slot, name),
    claimNow: (kind, name) => claimNow(scope, kind, name),
    claimRetry: () => claimRetry(scope),
    renew: (run) => renew(scope, run),
    release: (run) => release(scope, run),
    nameBackup: (run, backup) => nameBackup(scope, run, backup),
    unnameBackup: (run) => unnameBackup(scope, run),
    recordWritten: (run, written) => recordWritten(scope, run, written),
    recordProven: async (run, proof) => prune(await recordProven(scope, run, proof)),
    recordVerified: async (run, detail) => prune(await recordVerified(scope, run, detail)),
    recordFailed: async (run, fault) => prune(await recordFailed(scope, run, fault)),
    readRun: (id) => readRun(scope, id),
    listRuns: (query) => listRuns(scope, query),
    listBackups: (query) => listBackups(scope, query),
    readBackup: (name) => readBackup(scope, name),
    readNewestComplete: () => readNewestComplete(scope),
    nextToProve: () => nextToProve(scope),
    beginDeletion: (name) => beginDeletion(scope, name),
    cancelDeletion: (name, fault) => cancelDeletion(scope, name, fault),
    recordDeleted: (name) => recordDeleted(scope, name),
    noteFault: (name, fault) => noteFault(scope, name, fault),
    recordNeverWritten: (name) => recordNeverWritten(scope, name),
    observe: () => observeRuns(scope),
    readStoreClaim: (storeId) => readStoreClaim(scope, storeId, options.claimTiming),
    recordClaimPlaced: (id) => recordClaimPlaced(scope, id),
    replaceClaim: (id) => replaceClaim(scope, id),
    settleClaim: (id) => settleClaim(scope, id),
    noteSharedStore: () => noteSharedStore(scope),
  };
}
