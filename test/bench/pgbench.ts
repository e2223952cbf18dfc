import { execFile } from 'node:child_process';
import { access, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type BenchServer, execute } from './server.ts';

const run = promisify(execFile);

/** Debian installs pgbench here, one for each server version, and not on the PATH. */
const DEBIAN_ROOT = '/usr/lib/postgresql';

/** Returns the path of a pgbench of any version, or undefined. */
export async function findPgbench(): Promise<string | undefined> {
  const versions = await readdir(DEBIAN_ROOT).catch(() => [] as string[]);
  const candidates = [
    ...(process.env.PATH ?? '').split(':').map((directory) => join(directory, 'pgbench')),
    ...versions.sort((a, b) => Number(b) - Number(a)).map((version) => join(DEBIAN_ROOT, version, 'bin', 'pgbench')),
  ];
  for (const path of candidates) {
    const exists = await access(path).then(
      () => true,
      () => false,
    );
    if (exists) return path;
  }
  return undefined;
}

export interface PgbenchRun {
  pgbench: string;
  url: string;
  scriptFile: string;
  clients: number;
  seconds: number;
}

/** Runs pgbench and returns transactions per second, without the time to connect. */
export async function runPgbench({ pgbench, url, scriptFile, clients, seconds }: PgbenchRun): Promise<number> {
  const { hostname, port, username, password, pathname } = new URL(url);
  const args = ['-n', '-f', scriptFile, '-c', String(clients), '-j', '1', '-T', String(seconds)];
  const target = ['-h', hostname, '-p', port, '-U', username, pathname.slice(1)];
  const { stdout } = await run(pgbench, [...args, ...target], {
    env: { ...process.env, PGPASSWORD: decodeURIComponent(password) },
  });
  const tps = /^tps = ([\d.]+)/m.exec(stdout)?.[1];
  if (tps === undefined) throw new Error(`pgbench printed no tps:\n${stdout}`);
  return Number(tps);
}

/** Tables for transactions like a commit of LOOM: each updates one row and inserts one row of an entry's size. */
export const BASELINE_TABLES = `
  create table bench_state (state_key text primary key, revision bigint not null, hash bytea not null) with (fillfactor = 50);
  create table bench_audit (state_key text not null, seq bigint not null, entry jsonb not null, hash bytea not null, primary key (state_key, seq));
  insert into bench_state values ('default', 0, decode(repeat('00', 32), 'hex'))`;

const baselineEntry = JSON.stringify({
  seq: 1_234_567,
  event_id: '6f1b1b1a-0000-4000-8000-000000000000',
  recorded_at: '2026-01-31T11:00:00.000000Z',
  action: 'document.put',
  actor: 'admin',
  request_id: '6f1b1b1a-0000-4000-8000-000000000000',
  revision: 1_234_567,
  epoch: 'F95jjP9wui',
  changes: [{ op: 'put', name: 'doc-17', value: { counter: 1, text: 'x'.repeat(100) }, sha256: '0'.repeat(64) }],
});

/** One statement, so one round trip and one flush, that does what the database must do for a commit. */
export const BASELINE_STATEMENT = `with s as (
  update bench_state set revision = revision + 1, hash = decode(repeat('11', 32), 'hex')
   where state_key = 'default' returning revision, hash)
insert into bench_audit select 'default', revision, '${baselineEntry}', hash from s`;

/** Runs the statement that it was made for with this many clients, and returns statements per second. */
export type StatementRate = (clients: number, seconds: number) => Promise<number>;

/** Prepares a statement for pgbench. Undefined without pgbench. */
export async function prepareStatement(
  server: BenchServer,
  { url, name, statement }: { url: string; name: string; statement: string },
): Promise<StatementRate | undefined> {
  const pgbench = await findPgbench();
  if (pgbench === undefined) return undefined;
  const scriptFile = join(server.directory, `${name}.sql`);
  await writeFile(scriptFile, `${statement};\n`);
  return (clients, seconds) => runPgbench({ pgbench, url, scriptFile, clients, seconds });
}

/** Prepares the baseline of a commit in a database of its own. Undefined without pgbench. */
export async function prepareBaseline(
  server: BenchServer,
  database = 'bench_pgbench',
): Promise<StatementRate | undefined> {
  const url = await server.createDatabase(database);
  await execute(url, BASELINE_TABLES);
  return prepareStatement(server, { url, name: 'update-and-insert', statement: BASELINE_STATEMENT });
}
