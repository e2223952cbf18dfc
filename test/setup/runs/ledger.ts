// Room `runs`: ledgers of runs on a test database, with a clock that tests move by editing rows.

import { createHash } from 'node:crypto';
import type pg from 'pg';
import type { ClaimedRun, RunLedger } from '../../../src/domain/backup-run.ts';
import { createRunLedger, type RunLedgerOptions } from '../../../src/persistence/runs/ledger.ts';
import type { TestDatabase } from '../server/database.ts';

/** Returns the ledger of a node on this database. */
export function openLedger(database: TestDatabase, node = 'a', options: Partial<RunLedgerOptions> = {}): RunLedger {
  return createRunLedger(database.door(), { stateKey: 'default', node, ...options });
}

/** Returns the slot of this hour of the first days of 2026. */
export function slotAt(hour: number): Date {
  return new Date(Date.UTC(2026, 0, 1, hour));
}

export const digest = (text: string): string => createHash('sha256').update(text).digest('hex');

export const written = { bytes: 1_000, sha256: digest('object'), manifestSha256: digest('manifest') };

/** Id of a store that no test looks into. */
const storeId = '01a214ed-a53e-7cec-a3cc-fe25a65bce36';

/** Returns the value, or throws if there is none. */
export function required<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('expected a value');
  return value;
}

/** Names the backup of a run as it would be named if it was taken at this hour. */
export async function name(ledger: RunLedger, run: ClaimedRun, hour: number, of = `backup-${hour}`): Promise<boolean> {
  const takenAt = slotAt(hour).toISOString();
  return ledger.nameBackup(run, { name: of, takenAt, revision: hour, encrypted: false, storeId });
}

/** Runs a slot up to its proof, or up to the step before. */
export async function takeBackup(
  ledger: RunLedger,
  hour: number,
  upTo: 'named' | 'written' | 'failed' | 'proven' = 'proven',
): Promise<ClaimedRun> {
  const run = required(await ledger.claimSlot('scheduled', slotAt(hour)));
  if (!(await name(ledger, run, hour))) throw new Error('the name is taken');
  if (upTo === 'named') return run;
  await ledger.recordWritten(run, written);
  if (upTo === 'failed') await ledger.recordFailed(run, { ...fault, withdraws: true });
  if (upTo === 'proven') await ledger.recordProven(run, { restoreSeconds: 1.5 });
  return run;
}

export const fault = { code: 'proof_mismatch', detail: 'The restored state differs.' };

/** Moves all times of the runs back, as if this much time had passed. */
export async function passTime(pool: pg.Pool, ms: number): Promise<void> {
  const columns = ['lease_until', 'drill_until', 'retry_at', 'started_at', 'ended_at'];
  const moved = columns.map((column) => `${column} = ${column} - $1 * interval '1 millisecond'`);
  await pool.query(`update loom_backup_run set ${moved.join(', ')}`, [ms]);
}
