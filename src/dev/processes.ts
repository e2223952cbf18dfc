import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';

/** A user to run a process as. `undefined` means the user of this process. */
export interface ProcessUser {
  uid: number;
  gid: number;
}

/**
 * The whole environment of a child process. It has no secrets of this process, and no `PG…` variable or locale of the
 * developer's shell, which would change how the server behaves.
 */
export const plainEnvironment = { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin', LC_ALL: 'C', TZ: 'UTC' };

export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** Runs a program to its end. The code is -1 if it cannot be started, for example because `user` cannot reach it. */
export function runProgram(
  file: string,
  parameters: string[],
  user?: ProcessUser,
): Promise<{ code: number; output: string }> {
  // Every user can enter the root directory, unlike the working directory of this process.
  const options = { ...user, cwd: '/', env: plainEnvironment, maxBuffer: Number.POSITIVE_INFINITY };
  return new Promise((resolve) => {
    execFile(file, parameters, options, (error, stdout, stderr) => {
      const code = error === null ? 0 : error.code;
      if (typeof code === 'number') resolve({ code, output: stdout + stderr });
      else resolve({ code: -1, output: String(error?.message) });
    });
  });
}

/**
 * Returns the user to run PostgreSQL as. PostgreSQL refuses to run as root. For root it is `postgres`, or else
 * `nobody`, which every system has: a development database does not justify a new account.
 */
export async function findServerUser(): Promise<ProcessUser | undefined> {
  if (!isRoot()) return undefined;
  for (const name of ['postgres', 'nobody']) {
    const [uid, gid] = await Promise.all([runProgram('id', ['-u', name]), runProgram('id', ['-g', name])]);
    if (uid.code === 0 && gid.code === 0) return { uid: Number(uid.output), gid: Number(gid.output) };
  }
  throw new Error('PostgreSQL does not run as root, and this machine has no user "postgres" or "nobody".');
}

/** Returns the start time of a process, to distinguish it from a later one with its pid. Undefined if it has ended. */
export async function startOfProcess(pid: number): Promise<string | undefined> {
  if (process.platform !== 'linux') {
    const listed = await runProgram('ps', ['-o', 'lstart=', '-p', String(pid)]);
    return listed.code === 0 ? listed.output.trim() : undefined;
  }
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  // The command in parentheses may contain anything. State is the first field after it, start time the 20th.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields?.[0] === 'Z' ? undefined : fields?.[19];
}

/** Returns whether the command line of the process is that of a PostgreSQL server on this data directory. */
export async function isServerOf(pid: number, clusterDirectory: string): Promise<boolean> {
  const listed =
    process.platform === 'linux'
      ? await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
      : (await runProgram('ps', ['-o', 'command=', '-p', String(pid)])).output;
  return listed.split(/[\0 ]/)[0]?.endsWith('postgres') === true && listed.includes(clusterDirectory);
}

const PARENT_CHECK_MS = 1_000;

/** Returns a signal that aborts when the parent of this process has ended: the system then gives it another parent. */
export function watchParent(): AbortSignal {
  const controller = new AbortController();
  const parentPid = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parentPid) return;
    clearInterval(timer);
    controller.abort();
  }, PARENT_CHECK_MS).unref();
  return controller.signal;
}

/** Sends a signal. Ignores a process that has ended. */
export function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Waits until the process has ended, and returns whether it has. */
export async function waitForEnd(pid: number, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while ((await startOfProcess(pid)) !== undefined) {
    if (performance.now() > deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return true;
}
