import pg, { type Pool, type PoolClient } from 'pg';
import { isLoomError, LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { isConnectionFault, toLoomError } from './faults.ts';

/** `snapshot` sees the database as of its first statement, however long it reads. */
export type TransactionMode = 'write' | 'read' | 'snapshot';

const beginStatements: Record<TransactionMode, string> = {
  write: 'begin isolation level read committed read write',
  read: 'begin isolation level read committed read only',
  snapshot: 'begin isolation level repeatable read read only',
};

/**
 * Runs `run` in one transaction on one connection and commits. When it rejects, the transaction is rolled back and the
 * rejection passed on; errors of PostgreSQL and of the network become a LoomError. Rejects with `commit_outcome_unknown`
 * when the connection of a `write` breaks during the commit itself.
 */
export async function inTransaction<T>(
  pool: Pool,
  mode: TransactionMode,
  run: (client: PoolClient) => Promise<T>,
): Promise<T> {
  return withClient(pool, async (client) => {
    await client.query(beginStatements[mode]);
    let result: T;
    try {
      result = await run(client);
    } catch (error) {
      if (isOrdinary(error)) await rollback(client);
      throw error;
    }
    await commit(client, mode);
    return result;
  });
}

/**
 * Lends a connection of the pool. It goes back only when it is certain to be usable: the server has said that it is
 * outside of a transaction, and nothing but an ordinary error came up. In doubt (a stream given up midway, a broken
 * connection, a transaction left open) it is closed, because the next borrower of a wedged connection would hang.
 */
export async function withClient<T>(pool: Pool, use: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await connect(pool);
  let usable = false;
  try {
    const result = await use(client);
    usable = true;
    return result;
  } catch (error) {
    usable = isOrdinary(error);
    throw error instanceof pg.DatabaseError || isConnectionFault(error) ? toLoomError(error) : error;
  } finally {
    client.release(!usable || client.getTransactionStatus() !== 'I');
  }
}

async function connect(pool: Pool): Promise<PoolClient> {
  try {
    return await pool.connect();
  } catch (error) {
    throw toLoomError(error);
  }
}

async function commit(client: PoolClient, mode: TransactionMode): Promise<void> {
  let command: string;
  try {
    ({ command } = await client.query('commit'));
  } catch (error) {
    if (mode !== 'write' || !isConnectionFault(error)) throw error;
    throw new LoomError('commit_outcome_unknown', 'The connection broke during the commit.', { cause: error });
  }
  // PostgreSQL answers the commit of a failed transaction with a rollback, and without an error.
  if (command !== 'COMMIT') throw new LoomError('internal', 'A failed transaction was to be committed.');
}

/** A rollback that fails or takes too long leaves the transaction status as it is, and `withClient` closes the connection. */
async function rollback(client: PoolClient): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limits.rollbackTimeoutMs);
  });
  const rolledBack = client.query('rollback').then(
    () => undefined,
    () => undefined,
  );
  await Promise.race([rolledBack, deadline]);
  clearTimeout(timer);
}

/** An error that the server or LOOM itself raised between two messages of the protocol, so the connection is in step. */
function isOrdinary(error: unknown): boolean {
  return (error instanceof pg.DatabaseError || isLoomError(error)) && !isConnectionFault(error);
}
