import { setTimeout as sleep } from 'node:timers/promises';
import type { PoolClient } from 'pg';
import { isLoomError, LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { type Connection, createConnection } from './connection.ts';
import { isConnectionFault, isInStep, throwDatabaseError } from './faults.ts';

/** `snapshot` sees the database as of its first statement, however long it reads. */
export type TransactionMode = 'write' | 'read' | 'snapshot';

const beginStatements: Record<TransactionMode, string> = {
  write: 'begin isolation level read committed read write',
  read: 'begin isolation level read committed read only',
  snapshot: 'begin isolation level repeatable read read only',
};

/** Runs `run` in one transaction on `client`, see `Database.transaction`. */
export async function runTransaction<T>(
  client: PoolClient,
  mode: TransactionMode,
  run: (connection: Connection) => Promise<T>,
  { signal }: { signal?: AbortSignal } = {},
): Promise<T> {
  const connection = createConnection(client);
  signal?.addEventListener('abort', connection.cut, { once: true });
  try {
    if (signal?.aborted === true) connection.cut();
    return await commitAfter(client, mode, async () => run(connection));
  } catch (error) {
    throw signal?.aborted === true ? blameClient(error) : error;
  } finally {
    signal?.removeEventListener('abort', connection.cut);
  }
}

async function commitAfter<T>(client: PoolClient, mode: TransactionMode, run: () => Promise<T>): Promise<T> {
  await send(client, beginStatements[mode]);
  const result = await run().catch(async (error: unknown) => {
    if (isInStep(error)) await rollback(client);
    throw error;
  });
  await commit(client, mode);
  return result;
}

/** After an abort the broken connection is the client's doing; whether a commit took place is unknown all the same. */
function blameClient(error: unknown): unknown {
  if (!isLoomError(error) || error.code !== 'database_unavailable') return error;
  return new LoomError('client_gone', 'The client went away before the operation was done.', { cause: error });
}

/** Returns the command that the server reports, for example `COMMIT`. */
async function send(client: PoolClient, statement: string): Promise<string> {
  return (await client.query(statement).catch(throwDatabaseError)).command;
}

async function commit(client: PoolClient, mode: TransactionMode): Promise<void> {
  const command = await send(client, 'commit').catch((error: unknown) => {
    if (mode !== 'write' || !isConnectionFault(error)) throw error;
    throw new LoomError('commit_outcome_unknown', 'The connection broke during the commit.', { cause: error });
  });
  // PostgreSQL answers the commit of a failed transaction with a rollback, and without an error.
  if (command !== 'COMMIT') throw new LoomError('internal', 'A failed transaction was to be committed.');
}

/** Rolls back. If that fails or takes too long, the transaction status stays, and the pool closes the connection. */
async function rollback(client: PoolClient): Promise<void> {
  const done = new AbortController();
  const deadline = sleep(limits.rollbackTimeoutMs, undefined, { signal: done.signal }).catch(() => undefined);
  await Promise.race([client.query('rollback').catch(() => undefined), deadline]);
  done.abort();
}
