import type { Pool } from 'pg';
import { createEpoch } from './ids.ts';

/** Makes the keyed row of a state that is new; one that exists is left as it is. */
export async function ensureState(pool: Pool, stateKey: string): Promise<void> {
  await pool.query(
    `insert into loom_state (state_key, epoch) values ($1, $2)
     on conflict (state_key) do nothing`,
    [stateKey, createEpoch()],
  );
}
