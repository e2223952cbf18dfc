import { readFile } from 'node:fs/promises';
import type { Pool } from 'pg';

const statement = await readFile(new URL('../../../docs/verify-chain.sql', import.meta.url), 'utf8');

/** Verifies the chain of a state with `docs/verify-chain.sql`, which uses none of LOOM's functions. */
export async function verifyBySql(
  pool: Pool,
  stateKey = 'default',
): Promise<{ entries: number; ok: boolean; firstBadSeq: number | null }> {
  const { rows } = await pool.query(statement.replace(`select 'default' as`, `select '${stateKey}' as`));
  const [row] = rows;
  const bad: unknown = row.first_bad_seq;
  return { entries: Number(row.entries), ok: row.ok, firstBadSeq: bad === null ? null : Number(bad) };
}
