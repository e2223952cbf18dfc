import { spawn } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';

/** A user to run a process as; `undefined` everywhere means the user of this process. */
export interface ProcessUser {
  uid: number;
  gid: number;
}

/**
 * The whole environment of what is started here: secrets of this process stay in it, and no `PG…` variable or locale of the
 * developer's shell changes how the server behaves.
 */
export const plainEnvironment = { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin', LC_ALL: 'C', TZ: 'UTC' };

export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** Runs a program to its end. A program that cannot be started (missing, not reachable by `user`) has the code -1. */
export function runProgram(
  file: string,
  parameters: string[],
  user?: ProcessUser,
): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    // The root directory is one that every user can enter; the directory of this process may not be.
    const child = spawn(file, parameters, {
      ...user,
      cwd: '/',
      env: plainEnvironment,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    const collect = (chunk: Buffer): void => {
      output += chunk.toString('utf8');
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    child.once('error', (error) => resolve({ code: -1, output: error.message }));
    child.once('close', (code) => resolve({ code: code ?? -1, output }));
  });
}

/**
 * PostgreSQL refuses to run as root, so root lends it the user `postgres`, or else `nobody`, which every system has. No
 * account is created: a development database is no reason to change the machine. Another user runs it as itself.
 */
export async function findServerUser(): Promise<ProcessUser | undefined> {
  if (!isRoot()) return undefined;
  for (const name of ['postgres', 'nobody']) {
    const [uid, gid] = await Promise.all([runProgram('id', ['-u', name]), runProgram('id', ['-g', name])]);
    if (uid.code === 0 && gid.code === 0) return { uid: Number(uid.output), gid: Number(gid.output) };
  }
  throw new Error('PostgreSQL does not run as root, and this machine has neither a user "postgres" nor "nobody".');
}

/**
 * What tells a process from a later one of the same pid: when it started. `undefined` when there is no such process, or
 * only its remains (a zombie).
 */
export async function startOfProcess(pid: number): Promise<string | undefined> {
  if (process.platform !== 'linux') {
    const listed = await runProgram('ps', ['-o', 'lstart=', '-p', String(pid)]);
    return listed.code === 0 ? listed.output.trim() : undefined;
  }
  const fields = await readProcessFields(pid);
  return fields === undefined || fields[0] === 'Z' ? undefined : fields[19];
}

/** Whether the process is a PostgreSQL server of this data directory: such a server names it in its command line. */
export async function isServerOf(pid: number, clusterDirectory: string): Promise<boolean> {
  const listed =
    process.platform === 'linux'
      ? await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
      : (await runProgram('ps', ['-o', 'command=', '-p', String(pid)])).output;
  return listed.split(/[\0 ]/)[0]?.endsWith('postgres') === true && listed.includes(clusterDirectory);
}

export async function childrenOf(pid: number): Promise<number[]> {
  if (process.platform !== 'linux') {
    const listed = await runProgram('ps', ['-A', '-o', 'pid=,ppid=']);
    const rows = listed.output.split('\n').map((row) => row.trim().split(/\s+/).map(Number));
    return rows.flatMap(([child, parent]) => (child !== undefined && parent === pid ? [child] : []));
  }
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const parents = await Promise.all(pids.map(async (child) => (await readProcessFields(child))?.[1]));
  return pids.filter((_child, index) => parents[index] === String(pid));
}

/** Sends a signal; a process that is gone already is fine. */
export function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}

/** Waits until the process is gone; answers whether it is. */
export async function waitForEnd(pid: number, timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  while ((await startOfProcess(pid)) !== undefined) {
    if (Date.now() > deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return true;
}

/** The fields of /proc/<pid>/stat from the state on: the command before it, in parentheses, may contain anything. */
async function readProcessFields(pid: number): Promise<string[] | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
}
