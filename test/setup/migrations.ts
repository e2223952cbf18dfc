import pg from 'pg';
import { migrate } from '../../src/persistence/migrate.ts';
import { loadMigrations } from '../../src/persistence/migrations.ts';

export async function applyMigrations(url: string): Promise<void> {
  const pool = new pg.Pool({ connectionString: url, max: 1 });
  try {
    await migrate(pool, await loadMigrations());
  } finally {
    await pool.end();
  }
}
