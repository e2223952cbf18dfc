import pg from 'pg';
import { migrate } from '../../../src/persistence/schema/migrate.ts';
import { loadMigrations } from '../../../src/persistence/schema/migrations.ts';

export async function applyMigrations(url: string): Promise<void> {
  const pool = new pg.Pool({ connectionString: url, max: 1 });
  try {
    await migrate(pool, await loadMigrations());
  } finally {
    await pool.end();
  }
}
