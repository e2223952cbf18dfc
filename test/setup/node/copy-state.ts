import type { Pool } from 'pg';

/** The columns of each table that PostgreSQL does not derive from others. */
const tables: Record<string, string[]> = {
  loom_state: ['epoch', 'revision', 'documents', 'bytes', 'audit_seq', 'audit_hash', 'updated_at'],
  loom_document: ['name', 'value', 'revision', 'updated_at'],
  loom_audit: ['seq', 'event_id', 'idempotency_key', 'recorded_at', 'action', 'entry', 'hash'],
};

/** Copies a state's current rows, as a file-system backup would. Undo records are not copied. */
export async function copyState(
  from: Pool,
  to: Pool,
  { stateKey = 'default', as = stateKey }: { stateKey?: string; as?: string } = {},
): Promise<void> {
  await to.query('delete from loom_state where state_key = $1', [as]);
  for (const [table, columns] of Object.entries(tables)) {
    const texts = columns.map((column) => `${column}::text`).join();
    const { rows } = await from.query<Record<string, string | null>>(
      `select ${texts} from ${table} where state_key = $1`,
      [stateKey],
    );
    const places = columns.map((_, index) => `$${index + 2}`).join();
    for (const row of rows) {
      const values = columns.map((column) => row[column]);
      await to.query(`insert into ${table} (state_key, ${columns.join()}) values ($1, ${places})`, [as, ...values]);
    }
  }
}
