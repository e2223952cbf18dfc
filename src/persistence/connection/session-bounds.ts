import { limits } from '../../limits.ts';
import type { Queries } from './connection.ts';

export interface TransactionBounds {
  /** PostgreSQL ends a transaction that is idle for this long: its node is lost. */
  idleMs?: number;
  /** A statement that waits this long for a lock fails. 0: it waits without a limit. */
  lockMs?: number;
}

/**
 * Replaces the time limits of the role and the database until the transaction ends. A limit on statements would abort
 * every large backup, restore and migration.
 */
export async function boundTransaction(
  queries: Queries,
  { idleMs = limits.operationIdleTimeoutMs, lockMs = 0 }: TransactionBounds = {},
): Promise<void> {
  await setLocally(queries, {
    statement_timeout: 0,
    transaction_timeout: 0,
    lock_timeout: lockMs,
    idle_in_transaction_session_timeout: idleMs,
  });
}

/**
 * Makes PostgreSQL notice a lost node in the middle of a statement, until the transaction ends. Not for a transaction
 * whose result is streamed to a slow client: `tcp_user_timeout` also counts the time in which the node takes no bytes.
 */
export async function detectLostNode(queries: Queries): Promise<void> {
  const { lostNodeTimeoutMs, lostNodeProbes, keepAliveDelayMs } = limits;
  await queries.execute('savepoint lost_node');
  try {
    await setLocally(queries, {
      client_connection_check_interval: keepAliveDelayMs,
      tcp_user_timeout: lostNodeTimeoutMs,
      tcp_keepalives_idle: keepAliveDelayMs / 1_000,
      tcp_keepalives_interval: Math.ceil((lostNodeTimeoutMs - keepAliveDelayMs) / 1_000 / lostNodeProbes),
      tcp_keepalives_count: lostNodeProbes,
    });
    await queries.execute('release savepoint lost_node');
  } catch {
    // The platform of the server does not support one of them. The idle timeout remains.
    await queries.execute('rollback to savepoint lost_node');
  }
}

/** Sets those settings that the server's version has. A number is in the setting's own unit. */
async function setLocally(queries: Queries, settings: Record<string, number>): Promise<void> {
  await queries.execute(
    `select set_config(wanted.name, wanted.value, true)
       from unnest($1::text[], $2::text[]) as wanted (name, value)
      where current_setting(wanted.name, true) is not null`,
    [Object.keys(settings), Object.values(settings).map(String)],
  );
}
