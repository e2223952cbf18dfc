import type { Client, PoolClient } from 'pg';
import { limits } from '../../limits.ts';
import { cutClient } from './client.ts';
import { type CopyIn, copyLines, openCopyIn } from './copy.ts';
import { throwDatabaseError } from './faults.ts';

/** Defines the verbs for statements whose result fits in memory. Every verb rejects with a LoomError. */
export interface Queries {
  rows<Row extends object>(text: string, values?: unknown[]): Promise<Row[]>;
  /** Returns the first row, or undefined when there is none. */
  firstRow<Row extends object>(text: string, values?: unknown[]): Promise<Row | undefined>;
  /** Returns the number of rows that the statement changed. */
  execute(text: string, values?: unknown[]): Promise<number>;
}

/** Represents one borrowed connection. Its own verbs have no deadline. */
export interface Connection extends Queries {
  /**
   * Returns the same verbs with a deadline for each statement. After the deadline the verb rejects with
   * `database_unavailable` and the connection is closed.
   */
  within(timeoutMs?: number): Queries;
  /** Streams the lines of `copy (query) to stdout`, see `copyLines`. */
  copyOut(query: string, options?: { onLongLine?: (bytes: number) => Promise<void> }): AsyncGenerator<Buffer[]>;
  /** Opens `copy target from stdin`. Call no other verb until the copy has ended or was aborted. */
  openCopyIn(target: string): CopyIn;
  /** Closes the connection at once. Pending verbs reject, and PostgreSQL rolls back the transaction. */
  cut(): void;
}

export function createConnection(client: Client | PoolClient): Connection {
  return {
    ...createQueries(client),
    within: (timeoutMs = limits.queryTimeoutMs) => createQueries(client, timeoutMs),
    copyOut: (query, { onLongLine } = {}) => copyLines(client, query, onLongLine),
    openCopyIn: (target) => openCopyIn(client, target),
    cut: () => cutClient(client),
  };
}

/** Describes the part of pg's `Client` and `Pool` that runs a statement. */
interface Runner {
  // biome-ignore format: one line reads better
  query(query: { text: string; values: unknown[]; query_timeout?: number }): Promise<{ rows: unknown[]; rowCount: number | null }>;
}

/** Binds the verbs to a client or a pool. `timeoutMs` is the deadline of each statement; none by default. */
export function createQueries(runner: Runner, timeoutMs?: number): Queries {
  // pg accepts `query_timeout` for a single query, but its types do not declare it.
  const deadline = timeoutMs === undefined ? {} : { query_timeout: timeoutMs };
  const run = (text: string, values: unknown[] = []) =>
    runner.query({ text, values, ...deadline }).catch(throwDatabaseError);
  return {
    rows: async <Row extends object>(text: string, values?: unknown[]) => (await run(text, values)).rows as Row[],
    firstRow: async <Row extends object>(text: string, values?: unknown[]) =>
      (await run(text, values)).rows[0] as Row | undefined,
    execute: async (text, values) => (await run(text, values)).rowCount ?? 0,
  };
}
