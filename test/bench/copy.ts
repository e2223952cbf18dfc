import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import pg from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';

/** The columns of each table that PostgreSQL does not derive from others. */
const columns = {
  loom_document: 'state_key, name, value, revision, updated_at',
  loom_audit: 'state_key, seq, event_id, idempotency_key, recorded_at, action, entry, hash',
  loom_change: 'state_key, name, seq, revision, op, sha256',
} as const;

const tables = Object.keys(columns) as (keyof typeof columns)[];

/** Reads and discards the rows that a backup needs, as fast as COPY and a client can. */
export async function copyOut(url: string): Promise<void> {
  await withClient(url, async (client) => {
    for (const query of [
      `select name, encode(sha256, 'hex'), value from loom_document order by state_key, name`,
      `select seq, encode(hash, 'hex'), entry from loom_audit order by state_key, seq`,
    ]) {
      await pipeline(client.query(copyTo(`copy (${query}) to stdout`)), nowhere());
    }
  });
}

/** Writes the rows of these tables into files that `copyIn` reads. */
export async function dumpTables(url: string, directory: string): Promise<void> {
  await withClient(url, async (client) => {
    for (const table of tables) {
      const source = client.query(copyTo(`copy ${table} (${columns[table]}) to stdout`));
      await pipeline(source, createWriteStream(fileOf(directory, table)));
    }
  });
}

/**
 * Copies the rows of these tables into tables of the same definition, in one committed transaction. As in a restore,
 * the trigger of `loom_audit` does not index the changes, because `loom_change` is copied, too.
 */
export async function copyIn(url: string, directory: string): Promise<void> {
  await withClient(url, async (client) => {
    await client.query('begin');
    await client.query(`select set_config('loom.changes', 'kept', true)`);
    for (const table of tables) {
      const target = client.query(copyFrom(`copy ${table} (${columns[table]}) from stdin`));
      await pipeline(createReadStream(fileOf(directory, table), { highWaterMark: CHUNK_BYTES }), target);
    }
    await client.query('commit');
  });
}

/** Reads the file once. */
export async function hashFile(path: string): Promise<void> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: CHUNK_BYTES }), hash);
  hash.digest();
}

export function nowhere(): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => done() });
}

const CHUNK_BYTES = 256 * 1024;

function fileOf(directory: string, table: string): string {
  return join(directory, `${table}.copy`);
}

async function withClient(url: string, use: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await use(client);
  } finally {
    await client.end();
  }
}
