import { setTimeout as sleep } from 'node:timers/promises';
import type { PoolClient } from 'pg';
import { isLoomError, LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { Connection } from './connection.ts';
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

/** Runs `run` in one transaction on `client`, see `Database.transaction`. */
export async function runTransaction<T>(
  client: PoolClient,
  connection: Connection,
  mode: TransactionMode,
  run: (connection: Connection) => Promise<T>,
  signal: AbortSignal | undefined,
): Promise<T> {
  signal?.addEventListener('abort', connection.cut, { once: true });
  try {
    if (signal?.aborted === true) connection.cut();
    return await commitAfter(client, mode, async () => run(connection));
  } catch (error) {
    throw signal?.aborted === true ? toClientGone(error) : error;
  } finally {
    signal?.removeEventListener('abort', connection.cut);
  }
}

async function commitAfter<T>(client: PoolClient, mode: TransactionMode, run: () => Promise<T>): Promise<T> {
  await client.query(beginStatements[mode]).catch(throwDatabaseError);
  const result = await run().catch(async (error: unknown) => {
    if (isInStep(error)) await rollback(client);
    throw error;
  });
  await commit(client, mode);
  return result;
}

/** Converts the fault of a connection that an abort has cut to `client_gone`, except an unknown outcome of a commit. */
function toClientGone(error: unknown): unknown {
  if (isInStep(error) || (isLoomError(error) && error.code === 'commit_outcome_unknown')) return error;
  return new LoomError('client_gone', 'The client disconnected before the operation ended.', { cause: error });
}

/** Sends a statement, and returns the command that the server reports, such as `COMMIT`. */
async function send(client: PoolClient, statement: string): Promise<string> {
  return (await client.query(statement).catch(throwDatabaseError)).command;
}

async function commit(client: PoolClient, mode: TransactionMode): Promise<void> {
  const command = await send(client, 'commit').catch((error: unknown) => {
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
