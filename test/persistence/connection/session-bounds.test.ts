import { afterEach, beforeEach, expect, it } from 'vitest';
import { limits } from '../../../src/limits.ts';
import type { Queries } from '../../../src/persistence/connection/connection.ts';
import { boundTransaction, detectLostNode } from '../../../src/persistence/connection/session-bounds.ts';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';

let database: TestDatabase;
beforeEach(async () => {
  database = await createTestDatabase();
});
afterEach(() => database.drop());

const names = [
  'statement_timeout',
  'transaction_timeout',
  'lock_timeout',
  'idle_in_transaction_session_timeout',
  'client_connection_check_interval',
  'tcp_user_timeout',
  'tcp_keepalives_idle',
  'tcp_keepalives_count',
];

/** Reads the settings that the server has, in their own units. */
async function readSettings(queries: Queries): Promise<Record<string, string>> {
  const rows = await queries.rows<{ name: string; setting: string }>(
    'select name, setting from pg_settings where name = any ($1)',
    [names],
  );
  return Object.fromEntries(rows.map(({ name, setting }) => [name, setting]));
}

it('replaces the limits of the role until the transaction ends, and only then the session has them again', async () => {
  const door = database.door();
  await door.withConnection(async (connection) => {
    await connection.execute(`set statement_timeout = '7s'`);
    await connection.execute(`set lock_timeout = '7s'`);
    const before = await readSettings(connection);
    await connection.execute('begin');
    await boundTransaction(connection, { lockMs: 20_000 });
    await detectLostNode(connection);
    const within = await readSettings(connection);
    expect(within).toMatchObject({
      statement_timeout: '0',
      lock_timeout: '20000',
      idle_in_transaction_session_timeout: String(limits.operationIdleTimeoutMs),
    });
    expect(within.transaction_timeout ?? '0').toBe('0');
    if (process.platform === 'linux') {
      expect(within).toMatchObject({
        client_connection_check_interval: String(limits.keepAliveDelayMs),
        tcp_user_timeout: String(limits.lostNodeTimeoutMs),
        tcp_keepalives_idle: String(limits.keepAliveDelayMs / 1_000),
        tcp_keepalives_count: String(limits.lostNodeProbes),
      });
    }
    await boundTransaction(connection, { idleMs: limits.lockedIdleTimeoutMs });
    expect(await readSettings(connection)).toMatchObject({
      idle_in_transaction_session_timeout: String(limits.lockedIdleTimeoutMs),
      lock_timeout: '0',
    });
    await connection.execute('commit');
    expect(await readSettings(connection)).toEqual(before);
    await connection.execute('discard all');
  });
});

it('leaves the transaction usable if the server refuses a setting', async () => {
  const refused: string[] = [];
  await database.door().transaction('write', async (connection) => {
    const picky: Queries = {
      ...connection,
      execute: (text, values) => {
        if (!text.includes('set_config')) return connection.execute(text, values);
        refused.push(text);
        return connection.execute(`select set_config('tcp_keepalives_idle', 'x', true)`);
      },
    };
    await detectLostNode(picky);
    expect(await connection.firstRow('select 1 as one')).toEqual({ one: 1 });
  });
  expect(refused).toHaveLength(1);
});
