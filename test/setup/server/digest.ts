import type { Pool } from 'pg';

/**
 * Returns a digest of every row of every LOOM table. Two digests are equal if and only if no row has changed. With a
 * state key, covers only the rows of that state.
 */
export async function digestTables(pool: Pool, stateKey?: string): Promise<string> {
  const { rows: tables } = await pool.query<{ name: string }>(
    `select c.relname as name from pg_class c
      where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace and c.relname like 'loom\\_%'
        and ($1::text is null or exists (
              select from pg_attribute a where a.attrelid = c.oid and a.attname = 'state_key' and not a.attisdropped))
      order by 1`,
    [stateKey ?? null],
  );
  const digests = await Promise.all(
    tables.map(async ({ name }) => {
      const { rows } = await pool.query<{ digest: string }>(
        `select count(*) || ':' || encode(sha256(convert_to(coalesce(string_agg(t::text, E'\\n' order by t::text collate "C"), ''), 'UTF8')), 'hex') as digest
           from ${name} t ${stateKey === undefined ? '' : 'where state_key = $1'}`,
        stateKey === undefined ? [] : [stateKey],
      );
      return `${name}=${rows[0]?.digest}`;
    }),
  );
  return digests.join('\n');
}
