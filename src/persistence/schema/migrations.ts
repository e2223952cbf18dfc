import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { LoomError } from '../../errors.ts';

/** Describes one file of `migrations/`. */
export interface Migration {
  version: number;
  name: string;
  /** `compatible`: nodes of the previous version may keep serving. `breaking`: they may no longer write. */
  kind: 'compatible' | 'breaking';
  sql: string;
  /** SHA-256 of the file's bytes, in lower-case hex. */
  sha256: string;
}

const directory = new URL('../../../migrations/', import.meta.url);

/** Loads the migrations of this node, by version. Throws `migration_invalid` for a missing or invalid file. */
export async function loadMigrations(): Promise<Migration[]> {
  const files = (await readdir(directory)).filter((file) => file.endsWith('.sql')).sort();
  const migrations = await Promise.all(
    files.map(async (file) => parseMigration(file, await readFile(new URL(file, directory)))),
  );
  migrations.forEach((migration, index) => {
    if (migration.version === index + 1) return;
    throw invalid(`Migration ${index + 1} is missing: the next file is ${migration.name}.`);
  });
  return migrations;
}

export function parseMigration(file: string, bytes: Buffer): Migration {
  const name = /^(\d{4})_([a-z0-9_]+)\.sql$/.exec(file);
  if (name?.[1] === undefined) {
    throw invalid(`The migration file ${file} has an invalid name. Name it like 0001_what_it_does.sql.`);
  }
  const sql = bytes.toString('utf8');
  const firstLine = sql.slice(0, sql.indexOf('\n') + 1).trimEnd();
  const kind = /^-- loom: (compatible|breaking)$/.exec(firstLine)?.[1];
  if (kind !== 'compatible' && kind !== 'breaking') {
    throw invalid(`The first line of migration ${file} is neither "-- loom: compatible" nor "-- loom: breaking".`);
  }
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return { version: Number(name[1]), name: file, kind, sql, sha256 };
}

function invalid(detail: string): LoomError {
  return new LoomError('migration_invalid', detail);
}
