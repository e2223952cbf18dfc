import { setTimeout as sleep } from 'node:timers/promises';
import type { PoolClient } from 'pg';
import { isLoomError, LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { Runner } from './client.ts';
import type { Connection, Queries } from './connection.ts';
import { isConnectionFault, isInStep, throwDatabaseError } from './faults.ts';

/** Names the kind of a transaction. `snapshot` sees the database as of its first statement. */
export type TransactionMode = 'write' | 'read' | 'snapshot';

/** Makes PostgreSQL refuse a statement from which a policy would hide rows, instead of hiding them. */
const SEE_ALL_ROWS = 'set local row_security = off';

const beginStatements: Record<TransactionMode, string> = {
  write: `begin isolation level read committed read write; ${SEE_ALL_ROWS}`,
  read: `begin isolation level read committed read only; ${SEE_ALL_ROWS}`,
  snapshot: `begin isolation level repeatable read read only; ${SEE_ALL_ROWS}`,
};

/**
 * Ends the snapshot of a transaction in the mode `snapshot`, and takes a new one. What was set for the transaction is
 * lost. While a snapshot is open, PostgreSQL keeps all versions of the rows that commits replace, and commits read them
 * again and again.
 */
export async function renewSnapshot(queries: Queries): Promise<void> {
  await queries.execute('commit');
  await queries.execute(beginStatements.snapshot);
}

export interface TransactionOptions {
  signal?: AbortSignal | undefined;
  /** Sends `begin` and `commit`, with a deadline. By default, nothing but `signal` ends the wait for them. */
  watched?: { runner: Runner; timeoutMs: number } | undefined;
}

/** Runs `run` in one transaction on `client`, see `Database.transaction`. */
export async function runTransaction<T>(
  client: PoolClient,
  connection: Connection,
  mode: TransactionMode,
  run: (connection: Connection) => Promise<T>,
  { signal, watched }: TransactionOptions,
): Promise<T> {
  signal?.addEventListener('abort', connection.cut, { once: true });
  try {
    if (signal?.aborted === true) connection.cut();
    return await commitAfter(client, mode, async () => run(connection), createSend(client, watched));
  } catch (error) {
    throw signal?.aborted === true ? toClientGone(error) : error;
  } finally {
    signal?.removeEventListener('abort', connection.cut);
  }
}

async function commitAfter<T>(
  client: PoolClient,
  mode: TransactionMode,
  run: () => Promise<T>,
  send: Send,
): Promise<T> {
  await send(beginStatements[mode]);
  const result = await run().catch(async (error: unknown) => {
    if (isInStep(error)) await rollback(client);
    throw error;
  });
  await commit(send, mode);
  return result;
}

/** Converts the fault of a connection that an abort has cut to `client_gone`, except an unknown outcome of a commit. */
function toClientGone(error: unknown): unknown {
  if (isInStep(error) || (isLoomError(error) && error.code === 'commit_outcome_unknown')) return error;
  return new LoomError('client_gone', 'The client disconnected before the operation ended.', { cause: error });
}

/** Sends a statement, and returns the command that the server reports, such as `COMMIT`. */
type Send = (statement: string) => Promise<string>;

function createSend(client: PoolClient, watched: TransactionOptions['watched']): Send {
  if (watched === undefined) {
    return async (statement) => (await client.query(statement).catch(throwDatabaseError)).command;
  }
  const { runner, timeoutMs } = watched;
  const startedMs = performance.now();
  return async (text) => {
    // The last statement has time for one round trip, whatever the others took.
    const leftMs = Math.max(MIN_STATEMENT_MS, timeoutMs - (performance.now() - startedMs));
    return (await runner.query({ text, values: [], query_timeout: leftMs }).catch(throwDatabaseError)).command;
  };
}

const MIN_STATEMENT_MS = 1_000;

async function commit(send: Send, mode: TransactionMode): Promise<void> {
  const command = await send('commit').catch((error: unknown) => {
    if (mode !== 'write' || !isConnectionFault(error)) throw error;
    throw new LoomError('commit_outcome_unknown', 'The connection broke during the commit.', { cause: error });
  });
  // PostgreSQL answers the commit of a failed transaction with ROLLBACK instead of an error.
  if (command !== 'COMMIT') throw new LoomError('internal', 'PostgreSQL rolled back instead of committing.');
}

/** Rolls back. If that fails or times out, the transaction stays open, and `lend` closes the connection. */
async function rollback(client: PoolClient): Promise<void> {
  const done = new AbortController();
  const deadline = sleep(limits.rollbackTimeoutMs, undefined, { signal: done.signal }).catch(() => undefined);
  await Promise.race([client.query('rollback').catch(() => undefined), deadline]);
  done.abort();
}
