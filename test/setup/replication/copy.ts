import { chown, mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { runProgram } from '../../../src/dev/processes.ts';

/** Opens a connection for one statement. */
export async function queryOn(url: string, statement: string): Promise<pg.QueryResult> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await client.query(statement);
  } finally {
    await client.end();
  }
}

/** Files of the server's process, and WAL, which the standby gets from the primary. */
const omitted = ['postmaster.pid', 'postmaster.opts', 'pg_wal', 'postgresql.auto.conf'];

/**
 * Replaces the data directory `to` by a copy of a running server's, for a standby of that server. It uses the functions
 * of PostgreSQL's manual, "Making a Base Backup Using the Low Level API", because the embedded PostgreSQL comes without
 * pg_basebackup.
 */
export async function copyRunning({ url, directory }: { url: string; directory: string }, to: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    // The backup ends with its session.
    await client.query(`select pg_backup_start('standby', true)`);
    await rm(to, { recursive: true, force: true });
    await mkdir(to, { mode: 0o700 });
    const entries = (await readdir(directory)).filter((name) => !omitted.includes(name));
    const { code, output } = await runProgram('cp', ['-Rp', ...entries.map((name) => join(directory, name)), to]);
    // Files may vanish on the way. WAL has what replaced them.
    const failures = output.split('\n').filter((line) => line !== '' && !line.includes('No such file or directory'));
    if (code !== 0 && failures.length > 0) throw new Error(`The data could not be copied: ${failures.join(' ')}`);
    const { rows } = await client.query<{ labelfile: string }>('select labelfile from pg_backup_stop(false)');
    const { hostname, port, username, password } = new URL(url);
    const source = `host=${hostname} port=${port} user=${username} password=${password}`;
    const files = {
      backup_label: rows[0]?.labelfile ?? '',
      'standby.signal': '',
      'postgresql.auto.conf': `primary_conninfo = '${source}'\n`,
    };
    for (const [name, text] of Object.entries(files)) await writeFile(join(to, name), text, { mode: 0o600 });
    await mkdir(join(to, 'pg_wal'), { mode: 0o700 });
    const { uid, gid } = await stat(directory);
    for (const name of ['', 'pg_wal', ...Object.keys(files)]) await chown(join(to, name), uid, gid);
  } finally {
    await client.end();
  }
}
