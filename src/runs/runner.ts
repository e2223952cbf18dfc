import type { KeepPolicy } from '../backup/stored/retention.ts';
import type { ClaimedRun } from '../domain/backup-run.ts';
import { codeOf, isLoomError, LoomError } from '../errors.ts';
import { writeBackup } from './backup.ts';
import { findBackup, writtenOf } from './catalogue.ts';
import { keepLease, type LeaseTiming, runLost } from './lease.ts';
import type { RunParts } from './parts.ts';
import type { Ping } from './ping.ts';
import type { Openable } from './proof/open.ts';
import { disproves, type Proof, type ProofContext, proveBackup } from './proof/proof.ts';
import { applyRetention } from './retention.ts';
import { assertSameStore, assertStoreHasId } from './store/store-identity.ts';

export interface RunnerOptions {
  parts: RunParts;
  timing: LeaseTiming;
  policy: KeepPolicy;
  ping: Ping;
  /** Called with the error of each run that failed. */
  onFault(error: unknown): void;
  /** Called after each run that succeeded. */
  onSuccess(run: ClaimedRun): void;
}

/** A run that has begun. */
export interface Begun {
  run: ClaimedRun;
  /** Resolves when the run has ended, whatever its outcome. Never rejects. */
  ended: Promise<void>;
}

/** Runs one claimed run at a time. */
export interface Runner {
  isBusy(): boolean;
  /**
   * Calls `claim`, and begins the run that it returns. Undefined if there is none. Rejects with `backup_running` while
   * another run of this node is running, and with `draining` after `close`.
   */
  begin(claim: () => Promise<ClaimedRun>): Promise<Begun>;
  begin(claim: () => Promise<ClaimedRun | undefined>): Promise<Begun | undefined>;
  /** Aborts the run, and ends its lease so that another node takes over at once. */
  close(): Promise<void>;
}

export function createRunner(options: RunnerOptions): Runner {
  let current: object | undefined;
  let claiming: Promise<unknown> | undefined;
  const pending = new Set<Promise<void>>();
  const closing = new AbortController();

  async function begin(claim: () => Promise<ClaimedRun | undefined>): Promise<Begun | undefined> {
    closing.signal.throwIfAborted();
    // The scheduler looks for due runs all the time, and mostly finds none.
    while (claiming !== undefined) await claiming.catch(() => undefined);
    if (current !== undefined) throw alreadyRunning();
    const own = {};
    current = own;
    const free = (): void => {
      if (current === own) current = undefined;
    };
    const claimed = claimOrFree(claim, free).finally(() => {
      claiming = undefined;
    });
    claiming = claimed;
    const run = await claimed;
    if (run === undefined) return undefined;
    const ended = execute(options, run, { closing: closing.signal, free }).finally(() => {
      free();
      pending.delete(ended);
    });
    pending.add(ended);
    return { run, ended };
  }

  return {
    isBusy: () => current !== undefined,
    begin: begin as Runner['begin'],
    close: async () => {
      closing.abort(shuttingDown());
      await Promise.all(pending);
    },
  };
}

/** Claims a run. Calls `free` if there is none. */
async function claimOrFree(
  claim: () => Promise<ClaimedRun | undefined>,
  free: () => void,
): Promise<ClaimedRun | undefined> {
  let run: ClaimedRun | undefined;
  try {
    run = await claim();
  } finally {
    if (run === undefined) free();
  }
  return run;
}

/**
 * Runs a claimed run to its end, and records the outcome. Calls `free` as soon as a success is recorded, because its
 * reader may request the next run at once, and then deletes old backups. Never rejects: what cannot be recorded is
 * logged.
 */
async function execute(
  options: RunnerOptions,
  run: ClaimedRun,
  { closing, free }: { closing: AbortSignal; free: () => void },
): Promise<void> {
  const { parts, timing, ping, onSuccess } = options;
  const { ledger, log } = parts;
  const facts = { run: run.id, kind: run.kind, slot: run.slot, attempt: run.attempt };
  log.info(facts, `${nameOf(run)} begins`);
  // At once: the abort of the run can take longer than the node has left.
  const leave = (): void => void release(parts, run);
  closing.addEventListener('abort', leave);
  const lost = new AbortController();
  const signal = AbortSignal.any([closing, lost.signal]);
  const lease = keepLease(run, { ledger, log, ...timing }, lost);
  try {
    const recordTaken = await perform(parts, run, signal);
    free();
    onSuccess(run);
    if (run.kind !== 'drill') ping.succeeded();
    await recordTaken?.();
  } catch (error) {
    await recordFault(options, run, signal.aborted ? signal.reason : error, closing);
    return;
  } finally {
    lease.stop();
    closing.removeEventListener('abort', leave);
  }
  if (run.kind !== 'drill') await deleteExpired(options, closing);
}

/** Performs a run and records its success. Returns what then dates the backup that it took. */
async function perform(
  parts: RunParts,
  run: ClaimedRun,
  signal: AbortSignal,
): Promise<(() => Promise<void>) | undefined> {
  signal.throwIfAborted();
  if (run.kind !== 'drill') return await takeBackup(parts, run, signal);
  await drill(parts, run, signal);
  return undefined;
}

/** Writes a backup and proves it. Returns what dates it: only a proven backup counts as the last one. */
async function takeBackup(parts: RunParts, run: ClaimedRun, signal: AbortSignal): Promise<() => Promise<void>> {
  const { ledger, log } = parts;
  const { backup, storeId, recordTaken } = await writeBackup(parts, run, signal);
  const proof = await proveBackup(parts, backup, { runId: run.id, signal });
  if (proof.kind !== 'proven') throw new Error('the node has no key for the proof of its own backup');
  await assertStoreHasId(parts, storeId, signal);
  const { restoreSeconds } = proof;
  if (!(await ledger.recordProven(run, { restoreSeconds }))) throw runLost();
  const { bytes } = backup.written;
  log.info({ run: run.id, backup: backup.name, bytes, restoreSeconds }, 'a backup was written and proven');
  return () =>
    recordTaken().catch((error: unknown) => {
      log.warn({ err: error, run: run.id }, 'a backup was proven, but its time could not be recorded');
    });
}

/** Proves a stored backup again. */
async function drill(parts: RunParts, run: ClaimedRun, signal: AbortSignal): Promise<void> {
  const { ledger, keys, log } = parts;
  const entry = await findBackup(ledger, run.name ?? '');
  const { name, encrypted: isEncrypted } = entry;
  const backup = { name, written: writtenOf(entry), isEncrypted, identities: keys.identities };
  const proof = await proveInStore(parts, backup, { runId: run.id, signal });
  const isOwn =
    proof.kind === 'proven' ? await ledger.recordProven(run, proof) : await ledger.recordVerified(run, proof.detail);
  if (!isOwn) throw runLost();
  log.info({ run: run.id, backup: name, outcome: proof.kind }, `a stored backup was ${proof.kind}`);
}

/** Proves a backup. A fault counts only if the store is that of the catalogue, before and after. */
async function proveInStore(parts: RunParts, backup: Openable, context: ProofContext): Promise<Proof> {
  await assertSameStore(parts, context.signal);
  try {
    return await proveBackup(parts, backup, context);
  } catch (error) {
    if (disproves(error)) await assertSameStore(parts, context.signal);
    throw error;
  }
}

/** Records why a run failed. Its lease ends by itself if the database does not answer. */
async function recordFault(
  { parts, ping, onFault }: RunnerOptions,
  run: ClaimedRun,
  error: unknown,
  closing: AbortSignal,
): Promise<void> {
  const { ledger, log } = parts;
  const code = isLoomError(error) ? error.code : 'internal';
  const facts = { run: run.id, kind: run.kind, attempt: run.attempt, code };
  try {
    if (closing.aborted) {
      log.info(facts, `${nameOf(run)} was aborted: the node is shutting down`);
      await release(parts, run);
      return;
    }
    onFault(error);
    if (code === 'run_lost') {
      log.warn(facts, `${nameOf(run)} was aborted: its lease has ended`);
      return;
    }
    log.error({ ...facts, err: error }, `${nameOf(run)} failed`);
    ping.failed();
    const detail = isLoomError(error)
      ? error.message
      : `An unexpected error: ${String(error)}. See the log of the node.`;
    await ledger.recordFailed(run, { code, detail, withdraws: disproves(error) });
  } catch (failure) {
    log.warn({ ...facts, err: failure }, 'the end of a run could not be recorded: its lease ends by itself');
  }
}

/** Ends the lease of a run, so that another node takes over. May be called twice. */
async function release({ ledger, log }: RunParts, run: ClaimedRun): Promise<void> {
  await ledger.release(run).catch((error: unknown) => {
    log.warn({ err: error, run: run.id }, 'the lease of a run could not be ended: it ends by itself');
  });
}

async function deleteExpired({ parts, policy, onFault }: RunnerOptions, closing: AbortSignal): Promise<void> {
  try {
    await applyRetention(parts, policy, closing);
  } catch (error) {
    if (closing.aborted) return;
    onFault(error);
    // A fault of the store has its own line, and status shows it.
    if (codeOf(error) === 'store_shared') return;
    parts.log.warn({ err: error }, 'old stored backups could not be deleted: the next run tries again');
  }
}

function nameOf({ kind }: ClaimedRun): string {
  return kind === 'drill' ? 'a drill' : 'a backup run';
}

function alreadyRunning(): LoomError {
  return new LoomError(
    'backup_running',
    'This node is running a backup or a drill. Wait until it has ended, or ask another node.',
    { retryAfterSeconds: 5 },
  );
}

/** Creates the error that ends what a closing node is doing. */
function shuttingDown(): LoomError {
  return new LoomError('draining', 'The node is shutting down. Another node takes over its run.', {
    retryAfterSeconds: 1,
  });
}
