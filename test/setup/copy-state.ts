import type { Pool } from 'pg';

const tables = ['loom_state', 'loom_document', 'loom_audit'];

/** Makes the state of one database a copy of another's as it stands, as a file-system backup of that day would. */
export async function copyState(from: Pool, to: Pool): Promise<void> {
  await to.query('delete from loom_state');
  for (const table of tables) {
    const { rows } = await from.query(`select to_jsonb(t)::text as row from ${table} t where state_key = 'default'`);
    const generated = table === 'loom_document' ? 'state_key, name, value, revision, updated_at' : '*';
    const columns = generated === '*' ? '' : `(${generated})`;
    for (const { row } of rows) {
      await to.query(
        `insert into ${table} ${columns} select ${generated} from jsonb_populate_record(null::${table}, $1)`,
        [row],
      );
    }
  }
}
