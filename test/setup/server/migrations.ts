import { migrate } from '../../../src/persistence/schema/migrate.ts';
import { loadMigrations } from '../../../src/persistence/schema/migrations.ts';
import { openDoor } from './door.ts';

export async function applyMigrations(url: string): Promise<void> {
  const database = openDoor(url, 1);
  try {
    await migrate(database, await loadMigrations());
  } finally {
    await database.close({ deadlineMs: 5_000 });
  }
}
