import type { Pool, PoolClient } from 'pg';

/** Runs a transaction in which triggers do not fire, which only a superuser can request. */
export async function asSuperuser(pool: Pool, run: (client: PoolClient) => Promise<unknown>): Promise<void> {
  const client = await pool.connect();
  try {
    await client.query('begin; set local session_replication_role = replica');
    await run(client);
    await client.query('commit');
    client.release();
  } catch (error) {
    client.release(true);
    throw error;
  }
}
