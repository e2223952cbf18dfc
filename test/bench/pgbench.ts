import { execFile } from 'node:child_process';
import { access, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

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
