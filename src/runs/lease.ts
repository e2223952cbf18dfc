import { setTimeout as sleep } from 'node:timers/promises';
import type { ClaimedRun, RunLedger } from '../domain/backup-run.ts';
import { LoomError } from '../errors.ts';
import type { Log } from '../log.ts';

export interface LeaseTiming {
  renewLeaseMs: number;
  leaseMs: number;
}

export interface LeaseOptions extends LeaseTiming {
  ledger: Pick<RunLedger, 'renew'>;
  log: Log;
}

/**
 * Renews the lease of a run until `stop`. Aborts `run` with `run_lost` as soon as another node may have taken over: the
 * ledger says so, or no renewal has succeeded for the length of a lease.
 */
export function keepLease(
  run: ClaimedRun,
  { ledger, log, renewLeaseMs, leaseMs }: LeaseOptions,
  aborts: AbortController,
) {
  const stopped = new AbortController();
  let renewedMs = performance.now();

  async function renewOnce(): Promise<void> {
    const askedMs = performance.now();
    try {
      if (await ledger.renew(run)) renewedMs = askedMs;
      else aborts.abort(runLost());
    } catch (error) {
      log.warn({ err: error, run: run.id }, 'the lease of a run could not be renewed');
    }
  }

  async function keep(): Promise<void> {
    while (!stopped.signal.aborted) {
      await sleep(renewLeaseMs, undefined, { signal: stopped.signal }).catch(() => undefined);
      if (stopped.signal.aborted) return;
      await renewOnce();
      if (performance.now() - renewedMs > leaseMs) aborts.abort(runLost());
    }
  }

  void keep();
  return { stop: () => stopped.abort() };
}

/** Creates the error that ends a run whose lease has ended. */
export function runLost(): LoomError {
  return new LoomError(
    'run_lost',
    'The lease of the run has ended, so another node may have taken over. This node was frozen, or could not reach the ' +
      'database. Look at the other runs of this slot.',
  );
}
