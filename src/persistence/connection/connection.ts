import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, PoolClient } from 'pg';
import { limits } from '../../limits.ts';
import { cutClient, type Runner } from './client.ts';
import { copyLines, copyRows, type RowBlock } from './copy.ts';
import { type CopyIn, type CopyTarget, openCopyIn } from './copy-in.ts';
import { throwDatabaseError } from './faults.ts';
import type { Watch } from './watch.ts';
import { createPoliteYielder, createYielder, isShared, pausingCondition, type Yielder } from './yielder.ts';

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
   * `database_unavailable`, the connection is closed, and the server cancels the statement.
   */
  within(timeoutMs?: number): Queries;
  /**
   * Returns the same verbs as `within`, for a statement that may wait long and that others wait for. If its answer is
   * late, the node always asks the server about it: see `createWatch`.
   */
  watched(timeoutMs: number): Queries;
  /** Streams the lines of `copy (query) to stdout`, see `copyLines`. */
  copyOut(query: string, options?: { onLongLine?: (bytes: number) => Promise<void> }): AsyncGenerator<Buffer[]>;
  /** Streams the rows of a query in binary format, see `copyRows`. */
  copyRows(query: string, options?: { onLongLine?: (bytes: number) => Promise<void> }): AsyncGenerator<RowBlock>;
  /** Opens `copy … from stdin`. Call no other verb until the copy has ended or was aborted. */
  openCopyIn(target: CopyTarget): CopyIn;
  /** Creates the yielder of a stream to this connection. A patient one yields to the users of other connections. */
  createYielder(): Yielder;
  /**
   * Returns the rest of a WHERE clause for a long statement over rows that `seq` numbers, and whose size is that of
   * `value`. If the connection is patient and others use the database, the statement pauses, see `pausingCondition`.
   */
  pausingAt(seq: string, value: string): Promise<string>;
  /** Resolves to whether the connection is patient and others use the database now. Takes a moment if it is patient. */
  mustYield(): Promise<boolean>;
  /** Pauses for as long as the work since `startedMs` took, under the same condition. */
  pauseAfter(startedMs: number): Promise<void>;
  /** Closes the connection at once. Pending verbs reject, and PostgreSQL rolls back the transaction. */
  cut(): void;
}

/** Bounds a pause between statements. It is taken in steps, because it ends when the connection is cut. */
const MAX_REST_MS = 10_000;
const REST_STEP_MS = 100;

export interface ConnectionOptions {
  watch?: Watch;
  /** Returns how often a connection has been lent so far, to tell a stream about other requests. */
  countOthers?: () => number;
  /** Says that nobody waits for what this connection does: it leaves the processors to the users of others. */
  isPatient?: boolean | undefined;
}

export function createConnection(
  client: Client | PoolClient,
  { watch, countOthers = () => 0, isPatient = false }: ConnectionOptions = {},
): Connection {
  // Node 20 takes some microseconds for a spread before other members, and each batch of commits makes a connection.
  const { rows, firstRow, execute } = createQueries(client);
  let isCut = false;
  const mustYield = async (): Promise<boolean> => isPatient && (await isShared(countOthers));
  return {
    rows,
    firstRow,
    execute,
    within: (timeoutMs = limits.queryTimeoutMs) =>
      createQueries(watch?.over(client, { eager: false }) ?? client, timeoutMs),
    watched: (timeoutMs) => createQueries(watch?.over(client, { eager: true }) ?? client, timeoutMs),
    copyOut: (query, { onLongLine } = {}) => copyLines(client, query, { onLongLine, countOthers, isPatient }),
    copyRows: (query, { onLongLine } = {}) => copyRows(client, query, { onLongLine, countOthers, isPatient }),
    openCopyIn: (target) => openCopyIn(client, target),
    createYielder: () => (isPatient ? createPoliteYielder(countOthers, { isPatient }) : createYielder()),
    mustYield,
    pausingAt: async (seq, value) => ((await mustYield()) ? ` and ${pausingCondition(seq, value)}` : ''),
    pauseAfter: async (startedMs) => {
      const restMs = Math.min(performance.now() - startedMs, MAX_REST_MS);
      if (!(await mustYield())) return;
      const untilMs = performance.now() + restMs;
      while (!isCut && performance.now() < untilMs) await sleep(REST_STEP_MS);
    },
    cut: () => {
      isCut = true;
      cutClient(client);
    },
  };
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
