import type { Database } from '../connection/database.ts';

/** Describes whose runs a statement reads and writes. */
export interface RunScope {
  database: Database;
  stateKey: string;
  node: string;
  leaseMs: number;
  backoffMs: number;
}

/** Returns SQL for the time that is `parameter` milliseconds after the database's clock. */
export function afterMs(parameter: string): string {
  return `clock_timestamp() + ${parameter}::double precision * interval '1 millisecond'`;
}

/**
 * Returns SQL that tests a lease. One that ends later than any lease can is not valid, either: the clock has gone back
 * since, for example in a failover. Otherwise nobody could take over until the clock has caught up.
 */
export function isValidUntil(column: string, leaseMs: string): string {
  return `coalesce(${column} > clock_timestamp() and ${column} <= ${afterMs(`2 * ${leaseMs}`)}, false)`;
}
