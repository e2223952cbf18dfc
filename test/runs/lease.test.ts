import { once } from 'node:events';
import { expect, test } from 'vitest';
import type { ClaimedRun } from '../../src/domain/backup-run.ts';
import { LoomError } from '../../src/errors.ts';
import { createLogger } from '../../src/log.ts';
import { keepLease } from '../../src/runs/lease.ts';

const run: ClaimedRun = { id: 'r', kind: 'manual', slot: new Date(0), attempt: 1, name: null };
const log = createLogger({ level: 'silent' });

/** Keeps a lease until the run is aborted. Returns why, and the number of renewals. */
async function keepUntilLost(renew: (count: number) => Promise<boolean>, leaseMs: number) {
  let count = 0;
  const aborts = new AbortController();
  const ledger = {
    renew: () => {
      count += 1;
      return renew(count);
    },
  };
  const lost = once(aborts.signal, 'abort');
  const lease = keepLease(run, { ledger, log, renewLeaseMs: 2, leaseMs }, aborts);
  await lost;
  lease.stop();
  return { reason: aborts.signal.reason as unknown, count };
}

test('a run is aborted as soon as the ledger has given it to another node', async () => {
  const { reason, count } = await keepUntilLost(async (renewals) => renewals < 3, 3_600_000);
  expect(reason).toMatchObject({ code: 'run_lost' });
  expect(count).toBe(3);
});

test('a run outlives failed renewals, but not the length of a lease without one', async () => {
  const away = new LoomError('database_unavailable', 'The database could not be reached.');
  const survived = await keepUntilLost(
    (renewals) => (renewals < 5 ? Promise.reject(away) : Promise.resolve(false)),
    3_600_000,
  );
  expect(survived.count).toBe(5);
  const lost = await keepUntilLost(() => Promise.reject(away), 20);
  expect(lost.reason).toMatchObject({ code: 'run_lost' });
});
