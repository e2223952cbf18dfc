import type { RunLedger } from '../../../src/domain/backup-run.ts';
import type { Database } from '../../../src/persistence/connection/database.ts';

/** Puts the clock of the statements of a ledger ahead of that of the database. */
export function moveClock(database: Database, aheadMs: () => number): Database {
  const move = (text: string): string =>
    text.replaceAll('clock_timestamp()', `(clock_timestamp() + ${aheadMs()} * interval '1 millisecond')`);
  return {
    ...database,
    rows: (text, values) => database.rows(move(text), values),
    firstRow: (text, values) => database.firstRow(move(text), values),
    execute: (text, values) => database.execute(move(text), values),
  };
}

/** Puts the times of snapshots ahead, too. */
export function moveSnapshots(ledger: RunLedger, aheadMs: () => number): RunLedger {
  return {
    ...ledger,
    nameBackup: (run, { takenAt, ...backup }) =>
      ledger.nameBackup(run, { ...backup, takenAt: new Date(Date.parse(takenAt) + aheadMs()).toISOString() }),
  };
}
